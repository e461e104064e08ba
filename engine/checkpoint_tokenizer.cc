#include "engine/checkpoint_tokenizer.h"

#include <utility>

#include "absl/status/status.h"
#include "engine/gguf_vocabulary.h"
#include "fmt/format.h"
#include "kernels/status_macros.h"

namespace sentencekv {

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
