// The tokenizer seam: text to token ids and back.
//
// Implementations: SentencePiece (sentencepiece_tokenizer.h), byte-level BPE
// (bpe_tokenizer.h); test double: ByteTokenizer
// (tests/support/byte_tokenizer.h). Immutable after construction: every method
// may be called from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sentencekv {

struct EncodeOptions {
  // Recognise control tokens written in the text ("<|im_start|>"). Off, they
  // are ordinary text: a user cannot forge a turn.
  bool parse_special = false;
  // Put the vocabulary's BOS first, where the vocabulary asks for one.
  bool add_bos = true;
};

// A stretch of a text that is encoded as one: a prompt is often put together
// from trusted control text and what a user wrote.
struct TextPiece {
  std::string_view text;
  // As in EncodeOptions, for this piece alone; a control token that two pieces
  // spell together is ordinary text.
  bool parse_special = false;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // kInvalidArgument for text that the tokenizer cannot encode (never for
  // invalid UTF-8, which is encoded byte by byte or as U+FFFD).
  virtual absl::StatusOr<std::vector<int32_t>> Encode(
      std::string_view text, const EncodeOptions& options) const = 0;

  // Encodes the pieces as the one text they make: words go across their
  // borders. The default encodes each by itself, which is the same only where
  // no token has more than one byte.
  virtual absl::StatusOr<std::vector<int32_t>> EncodePieces(
      std::span<const TextPiece> pieces, bool add_bos) const;

  // The bytes a token adds to a text; possibly an incomplete UTF-8 sequence.
  // Control tokens give "" unless `render_special`. Ids outside the vocabulary
  // give "".
  virtual std::string TokenBytes(int32_t id,
                                 bool render_special = false) const = 0;

  // A leading space that SentencePiece models add to the first word: true when
  // the first token of a decoded *text* loses one leading space.
  virtual bool strips_leading_space() const { return false; }

  virtual int32_t vocab_size() const = 0;
  virtual std::optional<int32_t> bos_id() const = 0;
  // End-of-text and end-of-turn tokens: generation stops at any of these.
  virtual std::span<const int32_t> stop_ids() const = 0;
  virtual bool is_control(int32_t id) const = 0;
  // The id whose control token is written exactly so, e.g. "<|eot_id|>".
  virtual std::optional<int32_t> FindControl(std::string_view text) const = 0;
  // The ordinary token that the vocabulary spells exactly so and that stands
  // for just these bytes. Not found are tokens whose spelling is another one:
  // byte tokens ("<0x2E>"), and spaces, line ends and all that is not ASCII
  // where bytes are spelt as other characters (byte-level BPE).
  virtual std::optional<int32_t> FindLiteral(std::string_view text) const = 0;

  // The whole text of ids, control tokens left out unless `render_special`;
  // may end in an incomplete UTF-8 sequence.
  std::string Decode(std::span<const int32_t> ids,
                     bool render_special = false) const;
};

// A vocabulary as GGUF metadata (tokenizer.ggml.*) or a tokenizer.json give it.
struct Vocabulary {
  // "llama" (SentencePiece) or "gpt2" (byte-level BPE).
  std::string model;
  // Pre-tokenisation of byte-level BPE: "gpt-2", "llama-bpe" (also "llama3",
  // "llama-v3"), "smollm"; from tokenizer.ggml.pre.
  std::string pre;
  std::vector<std::string> tokens;
  std::vector<float> scores;  // "llama": one per token; else may be empty
  std::vector<int32_t> token_types;  // GGUF: 1 normal 2 unknown 3 control 4
                                     // user-defined 5 unused 6 byte
  std::vector<std::string> merges;   // "gpt2": "left right" by rank
  std::optional<int32_t> bos_id;
  std::optional<int32_t> eos_id;
  std::optional<int32_t> eot_id;
  std::optional<int32_t> unknown_id;
  std::vector<int32_t> stop_ids;  // more than eos_id and eot_id
  // Absent: true for "llama" and for "gpt2" with the pre-tokenisation
  // "llama-bpe", whose files leave it out; else false.
  std::optional<bool> add_bos;
  std::optional<bool> add_space_prefix;  // "llama"; absent: true
  // "gpt2": a word that is itself a token is taken without merging. Absent:
  // true for the pre-tokenisation "llama-bpe".
  std::optional<bool> ignore_merges;
  std::string chat_template;  // Jinja source; recognised, never executed
};

// kInvalidArgument names the field and value that is wrong or not supported.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(Vocabulary vocabulary);

// What a Hugging Face folder says of its tokenizer.
struct LoadedTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;
  std::string chat_template;  // "" when there is none
};

// Loads tokenizer.json or, without one, tokenizer.model; tokenizer_config.json,
// special_tokens_map.json, chat_template.jinja and generation_config.json
// (stop ids) where present. kNotFound when there is no tokenizer file.
absl::StatusOr<LoadedTokenizer> LoadTokenizerFolder(const std::string& folder);

}  // namespace sentencekv
