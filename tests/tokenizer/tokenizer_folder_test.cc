// LoadTokenizerFolder: which file has the last word.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/test_files.h"
#include "tests/tokenizer/tiny_vocabularies.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TokenizerFolder : public testing::Test {
 protected:
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << content;
  }
  void Write(const std::string& name, const Json& content) {
    Write(name, content.dump());
  }
  // A copy of one of the files of tests/data/tokenizers.
  void WriteTokenizerJson(const std::string& name) {
    fs::copy_file(SourceDir() + "/tests/data/tokenizers/" + name + ".json",
                  folder_ + "/tokenizer.json");
  }
  void WriteTokenizerModel() {
    SentencePieceModel model;
    model.vocabulary = SentencePieceVocabulary({"_h", "i", "_hi"});
    Write("tokenizer.model", SerializeSentencePieceModel(model));
  }
  LoadedTokenizer Load() {
    auto loaded = LoadTokenizerFolder(folder_);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.ok() ? *std::move(loaded) : LoadedTokenizer();
  }
  void ExpectError(absl::StatusCode code, const std::string& part) {
    auto loaded = LoadTokenizerFolder(folder_);
    EXPECT_EQ(loaded.status().code(), code);
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr(part));
  }

  const std::string folder_ = MakeTempDir();
};

TEST_F(TokenizerFolder, NeedsATokenizer) {
  ExpectError(absl::StatusCode::kNotFound,
              "no tokenizer.json and no tokenizer.model");
}

TEST_F(TokenizerFolder, ReadsTokenizerModel) {
  WriteTokenizerModel();
  LoadedTokenizer loaded = Load();
  EXPECT_EQ(loaded.chat_template, "");
  EXPECT_THAT(*loaded.tokenizer->Encode("hi", {}), ElementsAre(1, 261));
  EXPECT_THAT(loaded.tokenizer->stop_ids(), ElementsAre(2));
}

TEST_F(TokenizerFolder, PrefersTokenizerJson) {
  WriteTokenizerModel();
  WriteTokenizerJson("gpt2");
  EXPECT_EQ(Load().tokenizer->vocab_size(), 420);
}

TEST_F(TokenizerFolder, TakesBosAndEosFromTheSettings) {
  WriteTokenizerJson("llama2");
  Write("special_tokens_map.json",
        Json{{"bos_token", "</s>"}, {"eos_token", {{"content", "<s>"}}}});
  EXPECT_EQ(Load().tokenizer->bos_id(), 2);
  Write("tokenizer_config.json",
        Json{{"bos_token", {{"content", "<s>"}}}, {"eos_token", "</s>"}});
  LoadedTokenizer loaded = Load();
  EXPECT_EQ(loaded.tokenizer->bos_id(), 1);
  EXPECT_THAT(loaded.tokenizer->stop_ids(), ElementsAre(2));
}

TEST_F(TokenizerFolder, AddsBosAsTheSettingsSay) {
  WriteTokenizerJson("llama2");
  EXPECT_THAT(*Load().tokenizer->Encode("", {}), ElementsAre(1));
  Write("tokenizer_config.json", Json{{"add_bos_token", false}});
  EXPECT_THAT(*Load().tokenizer->Encode("", {}), ElementsAre());
  Write("tokenizer_config.json", Json{{"add_bos_token", "yes"}});
  ExpectError(absl::StatusCode::kInvalidArgument,
              "tokenizer_config.json.add_bos_token is not true or false");
}

TEST_F(TokenizerFolder, StopsWhereTheGenerationSettingsSay) {
  WriteTokenizerJson("llama3");
  Write("generation_config.json", Json{{"eos_token_id", {421, 7, 421}}});
  EXPECT_THAT(Load().tokenizer->stop_ids(), ElementsAre(421, 7, 424));
  Write("generation_config.json", Json{{"eos_token_id", 9}});
  EXPECT_THAT(Load().tokenizer->stop_ids(), ElementsAre(9, 424, 421));
  for (const Json& bad : {Json(-1), Json(425), Json("x"), Json(1.5),
                          Json({1, nullptr}), Json({{"a", 1}})}) {
    Write("generation_config.json", Json{{"eos_token_id", bad}});
    ExpectError(absl::StatusCode::kInvalidArgument,
                "generation_config.json: eos_token_id is not supported");
  }
  Write("generation_config.json",
        Json{{"eos_token_id", std::vector<int>(65, 1)}});
  ExpectError(absl::StatusCode::kInvalidArgument, "at most 64 ids: 65");
}

TEST_F(TokenizerFolder, FindsTheChatTemplate) {
  WriteTokenizerModel();
  Write("tokenizer_config.json", Json{{"chat_template", "one"}});
  EXPECT_EQ(Load().chat_template, "one");
  Write("tokenizer_config.json",
        Json{{"chat_template",
              {{{"name", "tool_use"}, {"template", "two"}},
               {{"name", "default"}, {"template", "three"}}}}});
  EXPECT_EQ(Load().chat_template, "three");
  Write("chat_template.jinja", std::string("four"));
  EXPECT_EQ(Load().chat_template, "four");
  fs::remove(folder_ + "/chat_template.jinja");
  Write("tokenizer_config.json", Json{{"chat_template", 5}});
  ExpectError(absl::StatusCode::kInvalidArgument,
              "tokenizer_config.json: chat_template is not supported: 5");
}

TEST_F(TokenizerFolder, AddsTokensToTokenizerModel) {
  WriteTokenizerModel();
  Write("tokenizer_config.json",
        Json{{"added_tokens_decoder",
              {{"2", {{"content", "</s>"}, {"special", true}}},
               {"262", {{"content", "<|im_start|>"}, {"special", true}}},
               {"263", {{"content", "[tool]"}, {"special", false}}}}}});
  LoadedTokenizer loaded = Load();
  EXPECT_EQ(loaded.tokenizer->vocab_size(), 264);
  EXPECT_EQ(loaded.tokenizer->FindControl("<|im_start|>"), 262);
  EXPECT_FALSE(loaded.tokenizer->is_control(263));
  EXPECT_THAT(*loaded.tokenizer->Encode("hi[tool]", {.add_bos = false}),
              ElementsAre(261, 263));
}

TEST_F(TokenizerFolder, RefusesAddedTokensThatDoNotFit) {
  WriteTokenizerModel();
  const std::pair<Json, std::string> cases[] = {
      {{{"300", {{"content", "x"}}}}, "leaves a gap after 262 tokens"},
      {{{"262", {{"special", true}}}}, "has no content"},
      {{{"1", {{"content", "<bos>"}}}}, "is '<s>' in tokenizer.model: '<bos>'"},
      {{{"-1", {{"content", "x"}}}}, "the id is not supported: '-1'"},
      {{{"9999999999", {{"content", "x"}}}}, "the id is not supported"},
      {Json(3), "added_tokens_decoder is not supported: 3"},
  };
  for (const auto& [decoder, expected] : cases) {
    Write("tokenizer_config.json", Json{{"added_tokens_decoder", decoder}});
    ExpectError(absl::StatusCode::kInvalidArgument, expected);
  }
}

TEST_F(TokenizerFolder, RefusesTokensThatAreNotThere) {
  WriteTokenizerModel();
  Write("tokenizer_config.json", Json{{"eos_token", "<|end|>"}});
  ExpectError(absl::StatusCode::kInvalidArgument,
              "tokenizer_config.json: eos_token is not a token: '<|end|>'");
}

TEST_F(TokenizerFolder, RefusesOddFiles) {
  WriteTokenizerModel();
  Write("tokenizer_config.json", std::string("{"));
  ExpectError(absl::StatusCode::kDataLoss, "tokenizer_config.json");
  Write("tokenizer_config.json", std::string((8 << 20) + 1, ' '));
  ExpectError(absl::StatusCode::kInvalidArgument,
              "must have at most 8388608 bytes: 8388609");
  fs::remove(folder_ + "/tokenizer_config.json");
  fs::create_directory(folder_ + "/tokenizer.json");
  ExpectError(absl::StatusCode::kInvalidArgument, "not a regular file");
}

TEST_F(TokenizerFolder, LoadsTheStoriesModel) {
  auto folder = SharedPath("models/stories260k");
  SKV_SKIP_WITHOUT(folder, "../shared/models/stories260k");
  auto loaded = LoadTokenizerFolder(*folder);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokenizer->vocab_size(), 512);
  EXPECT_TRUE(loaded->tokenizer->strips_leading_space());
}

}  // namespace
}  // namespace sentencekv
