// The model as the services see it: names, limits, and the parts below.
#pragma once

#include <string>

#include "cache/sentence_settings.h"
#include "engine/engine.h"
#include "server/request_validation.h"
#include "tokenizer/chat_format.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// Immutable once services run; any thread. Borrows engine and tokenizer, which
// must outlive every service.
struct ServedModel {
  std::string name;               // what `model` fields refer to
  std::string backend;            // Backend::description()
  std::string default_kv_policy;  // of requests that name none
  // Where requests of the policy sentence leave these out.
  int64_t sentence_token_budget = kDefaultSentenceBudget;
  int64_t sentence_dense_tokens = kDefaultSentenceDense;
  SentenceIndexKind sentence_index_kind = SentenceIndexKind::kMean;
  ChatStyle chat_style;
  Engine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;

  ServedLimits limits() const {
    return {.vocab_size = engine->model_info().vocab_size,
            .max_request_tokens = engine->max_request_tokens()};
  }
};

}  // namespace sentencekv
