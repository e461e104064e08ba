// Pre-tokenisation of byte-level BPE: cutting a text into the words that
// merges never cross, by the regular expressions of the model families.
//
// PCRE2 runs them, compiled to machine code. None of the patterns backtracks
// more than once over a stretch it then consumes, so a text costs time linear
// in its length. Thread-safe.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sentencekv {

class Pretokenizer {
 public:
  // "gpt-2", "llama-bpe" (also "llama3", "llama-v3") or "smollm", the names of
  // tokenizer.ggml.pre. kInvalidArgument for another.
  static absl::StatusOr<std::unique_ptr<Pretokenizer>> Make(
      std::string_view name);
  ~Pretokenizer();
  Pretokenizer(const Pretokenizer&) = delete;
  Pretokenizer& operator=(const Pretokenizer&) = delete;

  // The words of `text`, in order and without gaps. Any bytes are accepted:
  // one that is not part of valid UTF-8 counts as a punctuation mark.
  // kInternal when PCRE2 fails (memory).
  absl::StatusOr<std::vector<std::string_view>> Split(
      std::string_view text) const;

  // Whether the family takes a word that is itself a token whole, without
  // merging.
  bool ignore_merges() const { return ignore_merges_; }

 private:
  class Pattern;
  Pretokenizer();

  // Applied one after the other, each within the words of the one before. What
  // a pattern does not match stays together.
  std::vector<std::unique_ptr<Pattern>> patterns_;
  bool ignore_merges_ = false;
};

}  // namespace sentencekv
