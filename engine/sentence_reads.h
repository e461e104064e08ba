// What generated sentences were read from, as text.
#pragma once

#include <string>
#include <vector>

#include "cache/read_log.h"
#include "engine/active_request.h"
#include "engine/request.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// The sentences of the answer that ended since the last call; with `close` the
// last one too, which never ends. Nothing for a request that asked for no
// trace.
std::vector<SentenceReads> TakeSentenceReads(ActiveRequest& request,
                                             const Tokenizer& tokenizer,
                                             bool close);

}  // namespace sentencekv
