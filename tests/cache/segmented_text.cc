#include "tests/cache/segmented_text.h"

#include <fstream>
#include <sstream>

#include "engine/gguf_vocabulary.h"
#include "engine/mapped_file.h"
#include "kernels/check.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"
#include "tokenizer/tokenizer_json.h"

namespace sentencekv {
namespace {

MarkedTokenizer Marked(std::string name,
                       std::shared_ptr<const Tokenizer> tokenizer) {
  auto marks =
      std::make_shared<const SentenceMarks>(SentenceMarks::Build(*tokenizer));
  return {std::move(name), std::move(tokenizer), std::move(marks)};
}

MarkedTokenizer FromVocabulary(std::string name, Vocabulary vocabulary) {
  auto tokenizer = MakeTokenizer(std::move(vocabulary));
  SKV_CHECK(tokenizer.ok());
  return Marked(std::move(name), *std::move(tokenizer));
}

MarkedTokenizer FromJson(const std::string& name) {
  std::ifstream file(SourceDir() + "/tests/data/tokenizers/" + name + ".json");
  std::stringstream text;
  text << file.rdbuf();
  auto json = ParseTokenizerJson(text.str());
  SKV_CHECK(json.ok());
  auto tokenizer = MakeTokenizer(*json);
  SKV_CHECK(tokenizer.ok());
  return Marked(name, *std::move(tokenizer));
}

MarkedTokenizer FromGguf(std::string name, const std::string& path) {
  auto file = MappedFile::Open(path);
  SKV_CHECK(file.ok());
  auto gguf = GgufFile::Parse(file->bytes());
  SKV_CHECK(gguf.ok());
  auto vocabulary = VocabularyFromGguf(*gguf, 49152);
  SKV_CHECK(vocabulary.ok());
  return FromVocabulary(std::move(name), *std::move(vocabulary));
}

}  // namespace

const MarkedTokenizer& Bytes() {
  static const auto* const kBytes =
      new MarkedTokenizer(Marked("bytes", std::make_shared<ByteTokenizer>()));
  return *kBytes;
}

const std::vector<MarkedTokenizer>& AllTokenizers() {
  static const auto* const kAll = [] {
    auto* all = new std::vector<MarkedTokenizer>{Bytes()};
    all->push_back(FromVocabulary("tiny bpe", MakeTinyBpeVocabulary()));
    all->push_back(FromVocabulary("tiny llama", MakeTinyLlamaVocabulary()));
    for (const char* name : {"gpt2", "llama2", "llama3", "mistral", "smollm"}) {
      all->push_back(FromJson(name));
    }
    if (auto path = SmolLmPath()) all->push_back(FromGguf("SmolLM2", *path));
    return all;
  }();
  return *kAll;
}

std::vector<int32_t> Encode(const MarkedTokenizer& tokenizer,
                            std::string_view text) {
  auto tokens = tokenizer.tokenizer->Encode(
      text, {.parse_special = true, .add_bos = false});
  SKV_CHECK(tokens.ok());
  return *tokens;
}

std::vector<int32_t> EndsOf(const MarkedTokenizer& tokenizer,
                            std::span<const int32_t> tokens,
                            SegmenterOptions options) {
  Segmenter segmenter(tokenizer.marks, options);
  segmenter.Append(tokens);
  return {segmenter.ends().begin(), segmenter.ends().end()};
}

std::vector<std::string> SentencesOf(const MarkedTokenizer& tokenizer,
                                     std::span<const int32_t> tokens,
                                     SegmenterOptions options) {
  std::vector<int32_t> ends = EndsOf(tokenizer, tokens, options);
  const int32_t all = static_cast<int32_t>(tokens.size());
  if (ends.empty() || ends.back() < all) ends.push_back(all);
  std::vector<std::string> sentences;
  int32_t begin = 0;
  for (int32_t end : ends) {
    sentences.push_back(tokenizer.tokenizer->Decode(
        tokens.subspan(begin, end - begin), /*render_special=*/true));
    begin = end;
  }
  return sentences;
}

std::vector<std::string> Trimmed(std::vector<std::string> sentences) {
  constexpr std::string_view kSpace = " \t\r\n";
  for (std::string& sentence : sentences) {
    const size_t begin = sentence.find_first_not_of(kSpace);
    const size_t end = sentence.find_last_not_of(kSpace);
    sentence =
        begin == sentence.npos ? "" : sentence.substr(begin, end + 1 - begin);
  }
  return sentences;
}

}  // namespace sentencekv
