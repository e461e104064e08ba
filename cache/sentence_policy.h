// `sentence`: each decode step attends to the sentences that its query asks
// for, within a token budget. docs/sentences.md tells how.
#pragma once

#include <memory>

#include "cache/kv_policy.h"

namespace sentencekv {

std::unique_ptr<KvPolicy> MakeSentencePolicy(const KvPolicyContext& context);

}  // namespace sentencekv
