#include "engine/gguf_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/gguf_builder.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<Vocabulary> Read(const GgufBuilder& builder, int64_t num_rows) {
  const std::string bytes = builder.Build();
  const auto file =
      GgufFile::Parse(std::as_bytes(std::span(bytes.data(), bytes.size())));
  if (!file.ok()) return file.status();
  return VocabularyFromGguf(*file, num_rows);
}

TEST(GgufVocabulary, ReadsAllFields) {
  for (const std::string_view kind : {"gpt2", "llama"}) {
    TinyModelOptions options;
    options.vocabulary = kind;
    const TinyModel tiny = MakeTinyModel(options);
    const Vocabulary& expected = tiny.vocabulary;

    const auto actual = Read(TinyGguf(tiny), tiny.config.vocab_size);

    ASSERT_TRUE(actual.ok()) << actual.status();
    EXPECT_EQ(actual->model, expected.model);
    EXPECT_EQ(actual->pre, expected.pre);
    EXPECT_EQ(actual->tokens, expected.tokens);
    EXPECT_EQ(actual->scores, expected.scores);
    EXPECT_EQ(actual->token_types, expected.token_types);
    EXPECT_EQ(actual->merges, expected.merges);
    EXPECT_EQ(actual->bos_id, expected.bos_id);
    EXPECT_EQ(actual->eos_id, expected.eos_id);
    EXPECT_EQ(actual->eot_id, std::nullopt);
    EXPECT_EQ(actual->unknown_id, expected.unknown_id);
    EXPECT_EQ(actual->add_bos, expected.add_bos);
    EXPECT_EQ(actual->add_space_prefix, std::nullopt);
    EXPECT_EQ(actual->chat_template, expected.chat_template);
  }
}

struct Lie {
  const char* name;
  std::function<void(GgufBuilder&)> tell;
  const char* message;
};

// Metadata of a vocabulary of three tokens, without what the lie tells.
GgufBuilder ThreeTokens() {
  const std::vector<std::string> tokens = {"a", "b", "c"};
  GgufBuilder builder;
  builder.Text("tokenizer.ggml.model", "gpt2");
  builder.Texts("tokenizer.ggml.tokens", tokens);
  return builder;
}

class GgufVocabularyLies : public testing::TestWithParam<Lie> {};

TEST_P(GgufVocabularyLies, AreRefusedByField) {
  GgufBuilder builder = ThreeTokens();
  GetParam().tell(builder);
  const absl::Status status = Read(builder, 3).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

const std::vector<float> kTwoFloats = {1, 2};
const std::vector<int32_t> kTwoTypes = {1, 1};
const std::vector<int32_t> kBadTypes = {1, 7, 1};

INSTANTIATE_TEST_SUITE_P(
    All, GgufVocabularyLies,
    testing::Values(
        Lie{"too_few_scores",
            [](auto& b) { b.Floats("tokenizer.ggml.scores", kTwoFloats); },
            "tokenizer.ggml.scores: one for each of 3 tokens expected, got 2"},
        Lie{"too_few_types",
            [](auto& b) { b.Int32s("tokenizer.ggml.token_type", kTwoTypes); },
            "tokenizer.ggml.token_type: one for each of 3"},
        Lie{"type_seven",
            [](auto& b) { b.Int32s("tokenizer.ggml.token_type", kBadTypes); },
            "types are 0..6, got 7"},
        Lie{"scores_as_integers",
            [](auto& b) { b.Int32s("tokenizer.ggml.scores", kBadTypes); },
            "tokenizer.ggml.scores: an array of floats is expected"},
        Lie{"scores_as_number",
            [](auto& b) { b.Uint32("tokenizer.ggml.scores", 1); },
            "tokenizer.ggml.scores: not an array"},
        Lie{"merges_as_floats",
            [](auto& b) { b.Floats("tokenizer.ggml.merges", kTwoFloats); },
            "tokenizer.ggml.merges: an array of strings is expected"},
        Lie{"bos_outside",
            [](auto& b) { b.Uint32("tokenizer.ggml.bos_token_id", 3); },
            "tokenizer.ggml.bos_token_id: expected an integer in 0..2, got 3"},
        Lie{"eos_as_text",
            [](auto& b) { b.Text("tokenizer.ggml.eos_token_id", "2"); },
            "tokenizer.ggml.eos_token_id"},
        Lie{"add_bos_as_number",
            [](auto& b) { b.Uint32("tokenizer.ggml.add_bos_token", 1); },
            "tokenizer.ggml.add_bos_token: expected true or false"},
        Lie{"template_as_number",
            [](auto& b) { b.Uint32("tokenizer.chat_template", 1); },
            "tokenizer.chat_template: expected a text, got 1"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(GgufVocabulary, RefusesMoreTokensThanRowsAndTakesFewer) {
  EXPECT_TRUE(Read(ThreeTokens(), 4).ok());
  EXPECT_THAT(std::string(Read(ThreeTokens(), 2).status().message()),
              HasSubstr("tokenizer.ggml.tokens: 1 to 2 tokens expected"));
  EXPECT_THAT(std::string(Read(GgufBuilder(), 2).status().message()),
              HasSubstr("tokenizer.ggml.model: missing"));
}

}  // namespace
}  // namespace sentencekv
