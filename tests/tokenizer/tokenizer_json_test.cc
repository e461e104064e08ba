// tests/data/tokenizers holds tiny tokenizer.json files, trained on made-up
// sentences with the Python package "tokenizers" 0.23.3, and the ids and texts
// which that package gave for the cases beside them.
#include "tokenizer/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/test_files.h"
#include "tests/tokenizer/tiny_vocabularies.h"
#include "tokenizer/incremental_decoder.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

std::string ReadData(const std::string& name) {
  std::ifstream file(SourceDir() + "/tests/data/tokenizers/" + name);
  EXPECT_TRUE(file.good()) << name;
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& text) {
  auto json = ParseTokenizerJson(text);
  if (!json.ok()) return json.status();
  return MakeTokenizer(*json);
}

class TokenizerJsonFixture : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerJsonFixture, GivesTheIdsOfThePythonPackage) {
  const std::string name = GetParam();
  auto tokenizer = Load(ReadData(name + ".json"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const Json cases = Json::parse(ReadData(name + "_cases.json"));
  ASSERT_GE(cases.size(), 15u);
  for (const Json& c : cases) {
    const std::string text = c["text"];
    auto ids = (*tokenizer)->Encode(text, {.parse_special = true});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, c["ids"].get<std::vector<int32_t>>()) << text;
    // The package shows broken UTF-8 (of dropped bytes) as U+FFFD.
    IncrementalDecoder decoder(**tokenizer, /*render_special=*/true,
                               /*at_text_start=*/true);
    std::string decoded;
    for (int32_t id : *ids) decoded += decoder.Append(id);
    decoded += decoder.Finish();
    EXPECT_EQ(decoded, c["decoded"].get<std::string>()) << text;
  }
}

TEST_P(TokenizerJsonFixture, StreamsWhatItDecodes) {
  auto tokenizer = Load(ReadData(std::string(GetParam()) + ".json"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::mt19937 random(43);
  for (int round = 0; round < 200; ++round) {
    auto ids = (*tokenizer)->Encode(RandomText(random, 30), {});
    ASSERT_TRUE(ids.ok());
    IncrementalDecoder decoder(**tokenizer, false, /*at_text_start=*/true);
    std::string streamed;
    for (int32_t id : *ids) {
      std::string piece = decoder.Append(id);
      ASSERT_TRUE(IsValidUtf8(piece));
      streamed += piece;
    }
    streamed += decoder.Finish();
    const std::string decoded = (*tokenizer)->Decode(*ids);
    if (!IsValidUtf8(decoded)) continue;  // dropped bytes
    ASSERT_EQ(streamed, decoded);
  }
}

TEST_P(TokenizerJsonFixture, SurvivesCutsAndFlips) {
  const std::string text = ReadData(std::string(GetParam()) + ".json");
  std::mt19937 random(47);
  for (int round = 0; round < 60; ++round) {
    std::string spoilt = text;
    if (round % 2 == 0) {
      spoilt.resize(random() % text.size());
    } else {
      spoilt[random() % text.size()] = static_cast<char>(random() % 128);
    }
    auto tokenizer = Load(spoilt);
    if (!tokenizer.ok()) continue;
    EXPECT_TRUE((*tokenizer)->Encode("hello <s>", {}).ok());
  }
}

INSTANTIATE_TEST_SUITE_P(Files, TokenizerJsonFixture,
                         testing::Values("gpt2", "llama3", "smollm", "llama2",
                                         "mistral", "metaspace_split"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

struct BadCase {
  std::string file;
  std::function<void(Json&)> spoil;
  std::string expected;
};

// Changes of a good file, and what the refusal must say.
const BadCase kBadCases[] = {
    {"gpt2", [](Json& j) { j.erase("model"); }, "model is not an object"},
    {"gpt2", [](Json& j) { j["model"]["type"] = "Unigram"; },
     "model.type is not supported: 'Unigram'"},
    {"gpt2", [](Json& j) { j["model"]["dropout"] = 0.1; },
     "model.dropout is not supported: 0.1"},
    {"gpt2", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; },
     "model.end_of_word_suffix is not supported: '</w>'"},
    {"gpt2", [](Json& j) { j["model"]["vocab"] = 5; },
     "model.vocab is not an object"},
    {"gpt2", [](Json& j) { j["model"]["vocab"]["a"] = -1; },
     "model.vocab of 'a' is not an id"},
    {"gpt2", [](Json& j) { j["model"]["vocab"]["a"] = "x"; },
     "model.vocab of 'a' is not an id"},
    {"gpt2", [](Json& j) { j["model"]["vocab"]["a"] = 18000000000000000000u; },
     "model.vocab of 'a' is not an id"},
    {"gpt2", [](Json& j) { j["model"]["vocab"]["new"] = 5; }, "the id of"},
    {"gpt2", [](Json& j) { j["model"]["vocab"]["new"] = 500; },
     "no token has the id 420"},
    {"gpt2", [](Json& j) { j["model"]["vocab"].erase("a"); },
     "no token has the id"},
    {"gpt2", [](Json& j) { j["model"].erase("merges"); },
     "model.merges is not an array"},
    {"gpt2",
     [](Json& j) {
       j["model"]["merges"][3] = {"a", 5};
     },
     "model.merges[3] is not two tokens"},
    {"gpt2", [](Json& j) { j["model"]["merges"][3] = "a"; },
     "merges[3] is not two tokens"},
    {"gpt2",
     [](Json& j) {
       j["model"]["merges"][3] = {"a", "q"};
     },
     "merges[3] is not made of tokens"},
    {"gpt2", [](Json& j) { j["model"]["merges"][3] = j["model"]["merges"][2]; },
     "merges[3] is there twice"},
    {"gpt2", [](Json& j) { j["model"]["byte_fallback"] = true; },
     "model.byte_fallback of a byte-level model is not supported: true"},
    {"gpt2", [](Json& j) { j["model"]["byte_fallback"] = 1; },
     "model.byte_fallback is not true or false"},
    {"gpt2", [](Json& j) { j["model"]["unk_token"] = "none"; },
     "model.unk_token is not a token: 'none'"},
    {"gpt2", [](Json& j) { j["added_tokens"] = 1; },
     "added_tokens is not an array"},
    {"gpt2", [](Json& j) { j["added_tokens"][0].erase("id"); },
     "added_tokens[0] has no content or no id"},
    {"gpt2", [](Json& j) { j["added_tokens"][0]["lstrip"] = true; },
     "added_tokens[0].lstrip is not supported: true"},
    {"gpt2", [](Json& j) { j["added_tokens"][0]["id"] = 7; },
     "added_tokens[0] gives '<|endoftext|>' the id of"},
    {"gpt2",
     [](Json& j) {
       j["normalizer"] = {{"type", "NFC"}};
     },
     "normalizer is not supported: type 'NFC'"},
    {"gpt2", [](Json& j) { j["pre_tokenizer"]["add_prefix_space"] = true; },
     "pre_tokenizer.add_prefix_space is not supported: true"},
    {"gpt2", [](Json& j) { j["pre_tokenizer"]["use_regex"] = false; },
     "pre_tokenizer, the order"},
    {"gpt2", [](Json& j) { j["pre_tokenizer"] = nullptr; },
     "pre_tokenizer is not supported: null"},
    {"gpt2",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Whitespace"}};
     },
     "pre_tokenizer is not supported: type 'Whitespace'"},
    {"gpt2", [](Json& j) { j["decoder"] = nullptr; },
     "decoder of a byte-level model is not supported"},
    {"gpt2",
     [](Json& j) {
       j["post_processor"] = {{"type", "BertProcessing"}};
     },
     "post_processor is not supported: type 'BertProcessing'"},
    {"llama3",
     [](Json& j) {
       j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+";
     },
     "pre_tokenizer.pattern.Regex is not supported: '\\w+'"},
    {"llama3",
     [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["invert"] = true; },
     "pre_tokenizer, the order"},
    {"llama3", [](Json& j) { j["pre_tokenizer"]["pretokenizers"] = 1; },
     "pre_tokenizer.pretokenizers is not an array"},
    {"smollm",
     [](Json& j) {
       j["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false;
     },
     "pre_tokenizer, the order"},
    {"llama2",
     [](Json& j) { j["normalizer"]["normalizers"][0]["prepend"] = "x"; },
     "normalizer is not supported: type 'Prepend'"},
    {"llama2", [](Json& j) { j["normalizer"] = nullptr; },
     "pre_tokenizer is not supported: null"},
    {"llama2", [](Json& j) { j["decoder"] = nullptr; },
     "decoder without spaces"},
    {"llama2", [](Json& j) { j["decoder"]["decoders"][1]["type"] = "CTC"; },
     "decoder is not supported: type 'CTC'"},
    {"llama2",
     [](Json& j) {
       j["post_processor"]["single"].push_back(
           {{"SpecialToken", {{"id", "</s>"}}}});
     },
     "post_processor.single is not supported"},
    {"llama2",
     [](Json& j) {
       j["post_processor"]["single"][0]["SpecialToken"]["id"] = "<b>";
     },
     "post_processor's first token is not a token: '<b>'"},
    {"mistral", [](Json& j) { j["pre_tokenizer"]["prepend_scheme"] = "odd"; },
     "pre_tokenizer.prepend_scheme is not supported: 'odd'"},
    {"mistral", [](Json& j) { j["pre_tokenizer"]["replacement"] = "_"; },
     "pre_tokenizer.replacement is not supported: '_'"},
};

TEST(TokenizerJson, RefusesByFieldAndValue) {
  for (const BadCase& c : kBadCases) {
    Json json = Json::parse(ReadData(c.file + ".json"));
    c.spoil(json);
    auto tokenizer = Load(json.dump());
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(tokenizer.status().message()),
                HasSubstr(c.expected));
  }
}

TEST(TokenizerJson, RefusesWhatIsNotJson) {
  for (const char* text : {"", "[]", "{", "null", "{\"model\": }"}) {
    EXPECT_EQ(ParseTokenizerJson(text).status().code(),
              absl::StatusCode::kDataLoss);
  }
  std::string deep(1 << 20, '[');
  EXPECT_FALSE(ParseTokenizerJson(deep).ok());
}

// The older spellings that published files still have.
TEST(TokenizerJson, ReadsOlderSpellings) {
  Json json = Json::parse(ReadData("mistral.json"));
  Json& metaspace = json["pre_tokenizer"];
  metaspace.erase("prepend_scheme");
  metaspace["add_prefix_space"] = true;
  Json merges = Json::array();
  for (const Json& merge : json["model"]["merges"]) {
    merges.push_back(merge[0].get<std::string>() + " " +
                     merge[1].get<std::string>());
  }
  json["model"]["merges"] = merges;

  auto parsed = ParseTokenizerJson(json.dump());

  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_TRUE(parsed->characters.has_value());
  EXPECT_EQ(parsed->characters->space_prefix,
            CharacterBpeSettings::SpacePrefix::kAll);
  EXPECT_TRUE(MakeTokenizer(*parsed).ok());
}

}  // namespace
}  // namespace sentencekv
