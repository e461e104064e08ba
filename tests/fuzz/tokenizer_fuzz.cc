// Any bytes as a tokenizer: the first one says whether the rest is a
// tokenizer.json, a tokenizer.model or a vocabulary in lines. What is accepted
// must encode the input itself to ids of the vocabulary, and stream them as
// valid UTF-8.
//
// A vocabulary in lines: first the model ("llama" or "gpt2") and the
// pre-tokenisation ("gpt-2"), then a line for each token, its type as a digit
// before it, or for each merge, "m" before it.
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/check.h"
#include "tokenizer/incremental_decoder.h"
#include "tokenizer/sentencepiece_tokenizer.h"
#include "tokenizer/tokenizer_json.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

using MaybeTokenizer = absl::StatusOr<std::unique_ptr<Tokenizer>>;

MaybeTokenizer FromJson(std::string_view bytes) {
  auto json = ParseTokenizerJson(bytes);
  if (!json.ok()) return json.status();
  return MakeTokenizer(*json);
}

MaybeTokenizer FromModel(std::string_view bytes) {
  auto model = ParseSentencePieceModel(bytes);
  if (!model.ok()) return model.status();
  return SentencePieceTokenizer::Make(*std::move(model));
}

// Removes the first line and returns it.
std::string_view TakeLine(std::string_view& text) {
  size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  return line;
}

MaybeTokenizer FromLines(std::string_view bytes) {
  Vocabulary vocabulary;
  vocabulary.model = TakeLine(bytes);
  vocabulary.pre = TakeLine(bytes);
  while (!bytes.empty()) {
    std::string_view line = TakeLine(bytes);
    if (line.starts_with('m')) {
      vocabulary.merges.emplace_back(line.substr(1));
    } else if (!line.empty()) {
      vocabulary.tokens.emplace_back(line.substr(1));
      vocabulary.token_types.push_back(line[0] - '0');
      vocabulary.scores.push_back(-static_cast<float>(line.size() % 7));
    }
  }
  vocabulary.bos_id = 1;
  vocabulary.eos_id = static_cast<int32_t>(bytes.size() % 3);
  return MakeTokenizer(std::move(vocabulary));
}

void Use(const Tokenizer& tokenizer, std::string_view text) {
  for (bool parse_special : {false, true}) {
    auto ids = tokenizer.Encode(text, {parse_special, true});
    SKV_CHECK(ids.ok());
    IncrementalDecoder decoder(tokenizer, parse_special, true);
    for (int32_t id : *ids) {
      SKV_CHECK(id >= 0 && id < tokenizer.vocab_size());
      SKV_CHECK(IsValidUtf8(decoder.Append(id)));
    }
    SKV_CHECK(IsValidUtf8(decoder.Finish()));
  }
  for (int32_t id : tokenizer.stop_ids()) {
    SKV_CHECK(id >= 0 && id < tokenizer.vocab_size());
  }
}

}  // namespace
}  // namespace sentencekv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sentencekv;
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  MaybeTokenizer tokenizer = data[0] == 'J'   ? FromJson(bytes)
                             : data[0] == 'M' ? FromModel(bytes)
                                              : FromLines(bytes);
  // Long inputs are for the parsers: a text of this length says enough.
  if (tokenizer.ok()) Use(**tokenizer, bytes.substr(0, 4096));
  return 0;
}
