// A tokenizer with nothing to learn: token b is byte b, four control tokens
// follow. Test double of the tokenizer seam; immutable, so thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace sentencekv {

class ByteTokenizer : public Tokenizer {
 public:
  static constexpr int32_t kBos = 256;        // "<s>"
  static constexpr int32_t kEos = 257;        // "</s>"
  static constexpr int32_t kTurnStart = 258;  // "<|im_start|>"
  static constexpr int32_t kTurnEnd = 259;    // "<|im_end|>"
  static constexpr int32_t kVocabSize = 260;

  // `add_bos`: the vocabulary asks for a BOS before every text.
  explicit ByteTokenizer(bool add_bos = false) : add_bos_(add_bos) {}

  absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text, const EncodeOptions& options) const override;
  std::string TokenBytes(int32_t id,
                         bool render_special = false) const override;
  int32_t vocab_size() const override { return kVocabSize; }
  std::optional<int32_t> bos_id() const override { return kBos; }
  // EOS and the end of a turn.
  std::span<const int32_t> stop_ids() const override;
  bool is_control(int32_t id) const override;
  std::optional<int32_t> FindControl(std::string_view text) const override;
  std::optional<int32_t> FindLiteral(std::string_view text) const override;

 private:
  bool add_bos_;
};

}  // namespace sentencekv
