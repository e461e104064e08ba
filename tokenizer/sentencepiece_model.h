// The file format of SentencePiece models: a protocol buffer (ModelProto of
// sentencepiece_model.proto).
//
// Files are read here, not by the library, which trusts them: what is read is
// checked, and the library gets a model written anew from it. GGUF "llama"
// vocabularies take the same way.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// A "llama" Vocabulary and what else tokenizer.model can say. The defaults are
// those of Llama and of GGUF.
struct SentencePieceModel {
  Vocabulary vocabulary;
  bool is_unigram = false;  // else BPE
  bool remove_extra_whitespaces = false;
  // The text that the unknown token gives.
  std::string unknown_surface = " \xE2\x81\x87 ";
};

// Reads a tokenizer.model. kInvalidArgument when it is broken, and, naming
// field and value, when it asks for what is not supported: normalisation by a
// character map, word and character models, white space as a suffix.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(
    std::string_view bytes);

// Whether a token is written as one byte: "<0x0A>".
bool IsByteName(std::string_view token);

// kInvalidArgument, naming field and value, when the library could not run the
// model. REQUIRES: CheckVocabulary(model.vocabulary).
absl::Status CheckSentencePieceModel(const SentencePieceModel& model);

// The ModelProto. REQUIRES: CheckSentencePieceModel.
std::string SerializeSentencePieceModel(const SentencePieceModel& model);

}  // namespace sentencekv
