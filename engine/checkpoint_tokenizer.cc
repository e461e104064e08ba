#include "engine/checkpoint_tokenizer.h"

#include <utility>

#include "absl/status/status.h"
#include "engine/gguf_vocabulary.h"
#include "fmt/format.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// SentencePiece with the bytes alone; a space is a token of its own, as that
// writes it.
Vocabulary ByteVocabulary() {
  constexpr int32_t kUnknown = 2, kControl = 3, kNormal = 1, kByte = 6;
  Vocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.tokens = {"<unk>", "<s>", "</s>", "\u2581"};
  vocabulary.token_types = {kUnknown, kControl, kControl, kNormal};
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back(fmt::format("<0x{:02X}>", byte));
    vocabulary.token_types.push_back(kByte);
  }
  vocabulary.scores.resize(vocabulary.tokens.size());
  vocabulary.unknown_id = 0;
  vocabulary.bos_id = 1;
  vocabulary.eos_id = 2;
  vocabulary.add_space_prefix = false;
  return vocabulary;
}

}  // namespace

absl::StatusOr<LoadedTokenizer> LoadCheckpointTokenizer(
    const Checkpoint& checkpoint, const LlamaConfig& config) {
  LoadedTokenizer loaded;
  if (checkpoint.gguf.has_value()) {
    SKV_ASSIGN_OR_RETURN(
        Vocabulary vocabulary,
        VocabularyFromGguf(*checkpoint.gguf, config.vocab_size));
    loaded.chat_template = vocabulary.chat_template;
    SKV_ASSIGN_OR_RETURN(loaded.tokenizer,
                         MakeTokenizer(std::move(vocabulary)));
  } else if (!checkpoint.random_numbers.empty()) {
    SKV_ASSIGN_OR_RETURN(loaded.tokenizer, MakeTokenizer(ByteVocabulary()));
  } else {
    SKV_ASSIGN_OR_RETURN(loaded, LoadTokenizerFolder(checkpoint.path));
  }
  // More rows than tokens is padding; a token without a row cannot be fed.
  if (loaded.tokenizer->vocab_size() > config.vocab_size) {
    return absl::DataLossError(
        fmt::format("tokenizer: at most {} tokens expected, one for each row "
                    "of the embedding; got {}",
                    config.vocab_size, loaded.tokenizer->vocab_size()));
  }
  return loaded;
}

}  // namespace sentencekv
