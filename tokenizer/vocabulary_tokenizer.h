// What every tokenizer with a vocabulary shares: control tokens, BOS, stop
// ids, the bytes of each token. How plain text becomes ids is left to the
// derived class.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "tokenizer/literal_matcher.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// Token types as GGUF numbers them (tokenizer.ggml.token_type).
enum TokenType : int32_t {
  kNormalToken = 1,
  kUnknownToken = 2,
  kControlToken = 3,
  kUserDefinedToken = 4,
  kUnusedToken = 5,
  kByteToken = 6,
};

// The most that is accepted from a file. The largest published vocabularies
// have about 262,000 tokens of at most 256 bytes.
inline constexpr size_t kMaxTokens = size_t{1} << 21;
inline constexpr size_t kMaxTokenBytes = 4096;
// Control and user-defined tokens: searching a text costs up to this a byte.
inline constexpr size_t kMaxLiteralBytes = 512;
// The most that one call encodes.
inline constexpr size_t kMaxTextBytes = size_t{1} << 30;

// kInvalidArgument when counts, types or ids of the vocabulary contradict each
// other, or a token is empty, too long or there twice.
absl::Status CheckVocabulary(const Vocabulary& vocabulary);

// The type of a token; normal where the vocabulary names none.
int32_t TypeOf(const Vocabulary& vocabulary, size_t id);

class VocabularyTokenizer : public Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text, const EncodeOptions& options) const final;
  absl::StatusOr<std::vector<int32_t>> EncodePieces(
      std::span<const TextPiece> pieces, bool add_bos) const final;
  std::string TokenBytes(int32_t id, bool render_special) const final;
  int32_t vocab_size() const final;
  std::optional<int32_t> bos_id() const final { return bos_id_; }
  std::span<const int32_t> stop_ids() const final { return stop_ids_; }
  bool is_control(int32_t id) const final;
  std::optional<int32_t> FindControl(std::string_view text) const final;
  // Looks at every token.
  std::optional<int32_t> FindLiteral(std::string_view text) const final;

 protected:
  // `bytes[id]`: what the token adds to a text; of control tokens, how it is
  // written. REQUIRES: CheckVocabulary(vocabulary); one entry a token.
  VocabularyTokenizer(const Vocabulary& vocabulary,
                      std::vector<std::string> bytes, bool adds_bos);

  const std::string& bytes(size_t id) const { return bytes_[id]; }

  // Appends the ids of text in which no control token is to be recognised.
  // `text` is not empty; `at_text_start` is false after a control token.
  virtual absl::Status EncodePlain(std::string_view text, bool at_text_start,
                                   std::vector<int32_t>& ids) const = 0;

 private:
  void CollectStopIds(const Vocabulary& vocabulary);

  std::vector<std::string> bytes_;  // [vocab_size]
  std::vector<bool> is_control_;    // [vocab_size]
  std::vector<bool> is_literal_;    // [vocab_size] spelt as its bytes
  LiteralMatcher controls_;
  std::optional<int32_t> bos_id_;
  bool adds_bos_;
  std::vector<int32_t> stop_ids_;
};

}  // namespace sentencekv
