#include "tokenizer/bpe_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "tests/tokenizer/tiny_vocabularies.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Merges() {
  return MergesForWords({"_the", "the", "_cat", "hello", "__", "\n\n"});
}

std::unique_ptr<Tokenizer> Make(Vocabulary vocabulary) {
  auto tokenizer = MakeTokenizer(std::move(vocabulary));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

// The tokens of a text as strings.
std::vector<std::string> Pieces(const Tokenizer& tokenizer,
                                std::string_view text,
                                EncodeOptions options = {}) {
  auto ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  std::vector<std::string> pieces;
  for (int32_t id : *ids) pieces.push_back(tokenizer.TokenBytes(id, true));
  return pieces;
}

TEST(BpeTokenizer, JoinsBytesWithinWords) {
  auto tokenizer = Make(ByteLevelVocabulary("gpt-2", Merges()));
  EXPECT_THAT(Pieces(*tokenizer, "the cat thecat"),
              ElementsAre("the", " cat", " the", "c", "a", "t"));
  EXPECT_THAT(Pieces(*tokenizer, ""), ElementsAre());
}

TEST(BpeTokenizer, DropsBytesWithoutAToken) {
  Vocabulary vocabulary = ByteLevelVocabulary("gpt-2", Merges());
  vocabulary.token_types['x'] = kUnusedToken;
  auto tokenizer = Make(std::move(vocabulary));
  EXPECT_THAT(Pieces(*tokenizer, "xthe"), ElementsAre("the"));
  EXPECT_THAT(Pieces(*tokenizer, "x"), ElementsAre());
}

TEST(BpeTokenizer, TakesControlTokensForTextUnlessAsked) {
  auto tokenizer = Make(ByteLevelVocabulary("gpt-2", Merges()));
  EncodeOptions special{.parse_special = true};
  EXPECT_THAT(Pieces(*tokenizer, "the<|im_end|> the", special),
              ElementsAre("the", "<|im_end|>", " the"));
  auto plain = tokenizer->Encode("<|im_end|>", {});
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->size(), 10u);
  for (int32_t id : *plain) EXPECT_FALSE(tokenizer->is_control(id));
}

TEST(BpeTokenizer, AlwaysFindsUserDefinedTokens) {
  Vocabulary vocabulary = ByteLevelVocabulary("gpt-2", Merges());
  vocabulary.tokens.push_back("[tool]");
  vocabulary.token_types.push_back(kUserDefinedToken);
  auto tokenizer = Make(std::move(vocabulary));
  EXPECT_THAT(Pieces(*tokenizer, "the[tool][tool]the"),
              ElementsAre("the", "[tool]", "[tool]", "the"));
  EXPECT_FALSE(tokenizer->is_control(tokenizer->vocab_size() - 1));
  EXPECT_EQ(tokenizer->TokenBytes(tokenizer->vocab_size() - 1, false),
            "[tool]");
}

TEST(BpeTokenizer, EncodesPiecesAsOneText) {
  auto tokenizer = Make(ByteLevelVocabulary("gpt-2", Merges()));
  const TextPiece pieces[] = {{"<|im_start|>t", true},
                              {"he<|im_end|> ", false},
                              {"cat<|im_", true},
                              {"end|>", true}};
  auto ids = tokenizer->EncodePieces(pieces, true);
  ASSERT_TRUE(ids.ok());
  std::vector<std::string> tokens;
  for (int32_t id : *ids) tokens.push_back(tokenizer->TokenBytes(id, true));
  ASSERT_GT(tokens.size(), 4u);
  EXPECT_EQ(tokens[0], "<|im_start|>");
  EXPECT_EQ(tokens[1], "the");
  EXPECT_THAT(tokens, testing::Contains(" cat"));
  EXPECT_THAT(tokens, testing::Not(testing::Contains("<|im_end|>")));
  EXPECT_EQ(tokenizer->Decode(*ids, true),
            "<|im_start|>the<|im_end|> cat<|im_end|>");
}

TEST(BpeTokenizer, AddsBosWhereTheVocabularyAsksForIt) {
  Vocabulary vocabulary = ByteLevelVocabulary("gpt-2", Merges());
  EXPECT_EQ(Make(vocabulary)->Encode("", {})->size(), 0u);
  vocabulary.add_bos = true;
  auto tokenizer = Make(vocabulary);
  EXPECT_THAT(*tokenizer->Encode("", {}), ElementsAre(*vocabulary.bos_id));
  EXPECT_THAT(*tokenizer->Encode("", {.add_bos = false}), ElementsAre());
  vocabulary.add_bos.reset();
  vocabulary.pre = "llama-bpe";
  EXPECT_EQ(Make(vocabulary)->Encode("", {})->size(), 1u);
}

TEST(BpeTokenizer, TakesWholeWordsWhenMergesAreIgnored) {
  // "cat" is a token that no merge leads to.
  Vocabulary vocabulary = ByteLevelVocabulary("llama-bpe", Merges());
  vocabulary.add_bos = false;
  vocabulary.tokens.push_back("cat");
  vocabulary.token_types.push_back(kNormalToken);
  EXPECT_THAT(Pieces(*Make(vocabulary), "cat"), ElementsAre("cat"));
  vocabulary.ignore_merges = false;
  EXPECT_THAT(Pieces(*Make(vocabulary), "cat"), ElementsAre("c", "a", "t"));
}

TEST(BpeTokenizer, CollectsStopIds) {
  Vocabulary vocabulary = ByteLevelVocabulary("gpt-2", Merges());
  vocabulary.stop_ids = {7, 7};
  vocabulary.eot_id = 9;
  int32_t count = static_cast<int32_t>(vocabulary.tokens.size());
  auto tokenizer = Make(std::move(vocabulary));
  EXPECT_THAT(tokenizer->stop_ids(), ElementsAre(count - 2, 9, 7, count - 1));
  EXPECT_EQ(tokenizer->FindControl("<|im_start|>"), count - 3);
  EXPECT_EQ(tokenizer->FindControl("<|im_start|> "), std::nullopt);
  EXPECT_EQ(tokenizer->FindControl(""), std::nullopt);
}

TEST(BpeTokenizer, FindsTokensSpeltAsTheirBytes) {
  Vocabulary vocabulary = ByteLevelVocabulary("gpt-2", Merges());
  const auto period = std::ranges::find(vocabulary.tokens, ".");
  ASSERT_NE(period, vocabulary.tokens.end());
  const auto id = static_cast<int32_t>(period - vocabulary.tokens.begin());
  auto tokenizer = Make(std::move(vocabulary));
  EXPECT_EQ(tokenizer->FindLiteral("."), id);
  // There is such a token, spelt as another character.
  EXPECT_EQ(tokenizer->FindLiteral("\n"), std::nullopt);
  EXPECT_EQ(tokenizer->FindLiteral("<|im_start|>"), std::nullopt);
  EXPECT_EQ(tokenizer->FindLiteral(""), std::nullopt);
}

TEST(BpeTokenizer, GivesNothingForIdsOutsideTheVocabulary) {
  auto tokenizer = Make(ByteLevelVocabulary("gpt-2", Merges()));
  for (int32_t id : {-1, tokenizer->vocab_size(), 1 << 30}) {
    EXPECT_EQ(tokenizer->TokenBytes(id, true), "");
    EXPECT_FALSE(tokenizer->is_control(id));
  }
}

TEST(BpeTokenizer, RoundTripsAnyBytes) {
  std::mt19937 random(13);
  for (const char* pre : {"gpt-2", "llama-bpe", "smollm"}) {
    auto tokenizer = Make(ByteLevelVocabulary(pre, Merges()));
    for (int round = 0; round < 300; ++round) {
      std::string text =
          round % 2 == 0 ? RandomText(random, 60) : RandomBytes(random, 90);
      auto ids = tokenizer->Encode(text, {.parse_special = round % 3 == 0});
      ASSERT_TRUE(ids.ok());
      ASSERT_EQ(tokenizer->Decode(*ids), text);
    }
  }
}

TEST(BpeTokenizer, IsNotSlowedByHostileTexts) {
  for (const char* pre : {"gpt-2", "llama-bpe", "smollm"}) {
    // Long runs have merges to try, as in real vocabularies.
    auto tokenizer = Make(ByteLevelVocabulary(
        pre, MergesForWords({"aaaaaaaa", "________", "\n\n\n\n", "abc"})));
    for (const NamedText& hostile : HostileTexts(1 << 18)) {
      auto start = std::chrono::steady_clock::now();
      auto ids = tokenizer->Encode(hostile.text, {.parse_special = true});
      auto time = std::chrono::steady_clock::now() - start;
      ASSERT_TRUE(ids.ok());
      // A quadratic step would take hours; the limit allows for sanitizers.
      EXPECT_LT(time, std::chrono::seconds(20)) << pre << ", " << hostile.name;
    }
  }
}

struct BadCase {
  std::string expected;
  std::function<void(Vocabulary&)> spoil;
};

TEST(BpeTokenizer, RefusesVocabulariesThatContradictThemselves) {
  const BadCase cases[] = {
      {"model is not supported (llama and gpt2 are): 'bert'",
       [](Vocabulary& v) { v.model = "bert"; }},
      {"pre-tokenisation is not supported",
       [](Vocabulary& v) { v.pre = "qwen2"; }},
      {"tokens must number 1 to",
       [](Vocabulary& v) { v = Vocabulary{.model = "gpt2", .pre = "gpt-2"}; }},
      {"token_types are not as many",
       [](Vocabulary& v) { v.token_types.pop_back(); }},
      {"scores are not as many", [](Vocabulary& v) { v.scores.resize(3); }},
      {"token_types[5] is not 1 to 6: 0",
       [](Vocabulary& v) { v.token_types[5] = 0; }},
      {"token_types[5] is not 1 to 6: 7",
       [](Vocabulary& v) { v.token_types[5] = 7; }},
      {"tokens[66] is the same as tokens[65]: 'A'",
       [](Vocabulary& v) { v.tokens[66] = "A"; }},
      {"tokens[3] must have 1 to 4096 bytes: 0",
       [](Vocabulary& v) { v.tokens[3].clear(); }},
      {"tokens[3] must have 1 to 4096 bytes: 5000",
       [](Vocabulary& v) { v.tokens[3].assign(5000, 'x'); }},
      {"must have 1 to 512 bytes: 513",
       [](Vocabulary& v) { v.tokens.back().assign(513, 'x'); }},
      {"bos_id is not the id", [](Vocabulary& v) { v.bos_id = -1; }},
      {"eos_id is not the id", [](Vocabulary& v) { v.eos_id = 1 << 30; }},
      {"eot_id is not the id", [](Vocabulary& v) { v.eot_id = 100000; }},
      {"unknown_id is not the id",
       [](Vocabulary& v) { v.unknown_id = 100000; }},
      {"stop_ids is not the id",
       [](Vocabulary& v) {
         v.stop_ids = {1, -5};
       }},
      {"add_bos is true but there is no bos_id",
       [](Vocabulary& v) {
         v.bos_id.reset();
         v.add_bos = true;
       }},
      {"merges[1] is there twice: 't h'",
       [](Vocabulary& v) {
         v.merges = {"t h", "t h"};
       }},
      {"merges[0] is not made of tokens",
       [](Vocabulary& v) { v.merges[0] = "q q"; }},
      {"merges[0] is not made of tokens",
       [](Vocabulary& v) { v.merges[0] = "zz q"; }},
      {"merges[2] is not two tokens",
       [](Vocabulary& v) { v.merges[2] = "th"; }},
      {"merges[2] is not two tokens",
       [](Vocabulary& v) { v.merges[2] = "t  h"; }},
      {"merges[2] is not two tokens",
       [](Vocabulary& v) { v.merges[2] = " th"; }},
      {"merges[2] is not two tokens",
       [](Vocabulary& v) { v.merges[2] = "th "; }},
      {"merges[2] is not two tokens", [](Vocabulary& v) { v.merges[2] = ""; }},
      {"none of the 2 tokens is a single byte",
       [](Vocabulary& v) {
         v = Vocabulary{
             .model = "gpt2", .pre = "gpt-2", .tokens = {"ab", "cd"}};
       }},
  };
  for (const BadCase& c : cases) {
    Vocabulary vocabulary = ByteLevelVocabulary("gpt-2", Merges());
    c.spoil(vocabulary);
    auto made = MakeTokenizer(std::move(vocabulary));
    EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(made.status().message()), HasSubstr(c.expected));
  }
}

TEST(BpeTokenizer, KeepsCharactersOutsideTheByteTable) {
  Vocabulary vocabulary = ByteLevelVocabulary("gpt-2", Merges());
  vocabulary.tokens.push_back("\u4e16\xFF");
  vocabulary.token_types.push_back(kNormalToken);
  auto tokenizer = Make(std::move(vocabulary));
  EXPECT_EQ(tokenizer->TokenBytes(tokenizer->vocab_size() - 1, false),
            "\u4e16\xFF");
}

}  // namespace
}  // namespace sentencekv
