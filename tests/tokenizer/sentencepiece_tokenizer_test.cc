#include "tokenizer/sentencepiece_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "tests/tokenizer/tiny_vocabularies.h"
#include "tokenizer/incremental_decoder.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<std::string> kPieces = {
    "_h", "_he", "_hel", "_hell", "_hello", "lo",    "_w", "or",
    "ld", "_",   "h",    "e",     "l",      "o",     "w",  "r",
    "d",  "a",   "aa",   "aaaa",  "__",     "\u00e9"};

std::unique_ptr<Tokenizer> Make(Vocabulary vocabulary) {
  auto tokenizer = MakeTokenizer(std::move(vocabulary));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

std::vector<std::string> Pieces(const Tokenizer& tokenizer,
                                std::string_view text,
                                EncodeOptions options = {.add_bos = false}) {
  auto ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  std::vector<std::string> pieces;
  for (int32_t id : *ids) pieces.push_back(tokenizer.TokenBytes(id, true));
  return pieces;
}

TEST(SentencePieceTokenizer, JoinsByScore) {
  auto tokenizer = Make(SentencePieceVocabulary(kPieces));
  EXPECT_THAT(Pieces(*tokenizer, "hello world"),
              ElementsAre(" hello", " w", "or", "ld"));
  EXPECT_THAT(Pieces(*tokenizer, "hello", {}), ElementsAre("<s>", " hello"));
  EXPECT_THAT(Pieces(*tokenizer, ""), ElementsAre());
}

TEST(SentencePieceTokenizer, AddsTheSpaceOnlyWhereTheVocabularySaysSo) {
  Vocabulary vocabulary = SentencePieceVocabulary(kPieces);
  vocabulary.add_space_prefix = false;
  auto tokenizer = Make(std::move(vocabulary));
  EXPECT_FALSE(tokenizer->strips_leading_space());
  EXPECT_THAT(Pieces(*tokenizer, "hello"), ElementsAre("h", "e", "l", "lo"));
}

TEST(SentencePieceTokenizer, FallsBackToBytes) {
  auto tokenizer = Make(SentencePieceVocabulary(kPieces));
  EXPECT_THAT(Pieces(*tokenizer, "\u20ac"),
              ElementsAre(" ", "\xE2", "\x82", "\xAC"));
  EXPECT_THAT(Pieces(*tokenizer, std::string_view("\0", 1)),
              ElementsAre(" ", std::string(1, '\0')));
  EXPECT_EQ(tokenizer->Decode(*tokenizer->Encode("\U0001F600\n", {})),
            "\U0001F600\n");
}

TEST(SentencePieceTokenizer, UsesTheUnknownTokenWithoutBytes) {
  auto tokenizer = Make(SentencePieceVocabulary(kPieces, false));
  auto ids = tokenizer->Encode("\u20ac", {.add_bos = false});
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->back(), 0);
  EXPECT_EQ(tokenizer->TokenBytes(0, false), " \u2047 ");
}

TEST(SentencePieceTokenizer, TakesControlTokensForTextUnlessAsked) {
  auto tokenizer = Make(SentencePieceVocabulary(kPieces));
  auto plain = tokenizer->Encode("</s>", {.add_bos = false});
  ASSERT_TRUE(plain.ok());
  for (int32_t id : *plain) EXPECT_FALSE(tokenizer->is_control(id));
  EXPECT_EQ(tokenizer->Decode(*plain), "</s>");
  // Each text after a control token gets its space.
  EXPECT_THAT(Pieces(*tokenizer, "<s>hello</s>hello",
                     {.parse_special = true, .add_bos = false}),
              ElementsAre("<s>", " hello", "</s>", " hello"));
}

// The library would take ":" for the control token, and then count wrongly.
TEST(SentencePieceTokenizer, TakesAControlTokenOfOneCharacterForText) {
  Vocabulary vocabulary = SentencePieceVocabulary(kPieces);
  vocabulary.tokens.push_back(":");
  vocabulary.token_types.push_back(kControlToken);
  vocabulary.scores.push_back(0);
  auto tokenizer = Make(std::move(vocabulary));
  auto ids = tokenizer->Encode("a:a", {.add_bos = false});
  ASSERT_TRUE(ids.ok()) << ids.status();
  for (int32_t id : *ids) EXPECT_FALSE(tokenizer->is_control(id));
  EXPECT_EQ(tokenizer->Decode(*ids), "a:a");
  EXPECT_THAT(Pieces(*tokenizer, "a:", {.parse_special = true}),
              ElementsAre("<s>", " ", "a", ":"));
}

TEST(SentencePieceTokenizer, AlwaysFindsUserDefinedTokens) {
  Vocabulary vocabulary = SentencePieceVocabulary(kPieces);
  vocabulary.tokens.push_back("[tool]");
  vocabulary.token_types.push_back(kUserDefinedToken);
  vocabulary.scores.push_back(0);
  auto tokenizer = Make(std::move(vocabulary));
  EXPECT_THAT(Pieces(*tokenizer, "hello[tool]a"),
              ElementsAre(" hello", "[tool]", "a"));
}

TEST(SentencePieceTokenizer, FindsTheUnknownTokenByItsId) {
  Vocabulary vocabulary = SentencePieceVocabulary(kPieces);
  vocabulary.token_types[0] = kNormalToken;
  EXPECT_TRUE(MakeTokenizer(vocabulary).ok());
  vocabulary.unknown_id.reset();
  EXPECT_THAT(std::string(MakeTokenizer(vocabulary).status().message()),
              HasSubstr("one token must be the unknown one: 0"));
}

TEST(SentencePieceTokenizer, FindsNoByteTokenAsALiteral) {
  Vocabulary vocabulary = SentencePieceVocabulary(kPieces);
  auto without = Make(vocabulary);
  const auto byte = std::ranges::find(vocabulary.tokens, "<0x21>");
  ASSERT_NE(byte, vocabulary.tokens.end());
  EXPECT_EQ(without->TokenBytes(
                static_cast<int32_t>(byte - vocabulary.tokens.begin())),
            "!");
  EXPECT_EQ(without->FindLiteral("!"), std::nullopt);
  vocabulary.tokens.push_back("!");
  vocabulary.token_types.push_back(kNormalToken);
  vocabulary.scores.push_back(-50);
  EXPECT_EQ(Make(vocabulary)->FindLiteral("!"),
            static_cast<int32_t>(vocabulary.tokens.size()) - 1);
}

TEST(SentencePieceTokenizer, StopsAtTheEnd) {
  auto tokenizer = Make(SentencePieceVocabulary(kPieces));
  EXPECT_THAT(tokenizer->stop_ids(), ElementsAre(2));
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->FindControl("</s>"), 2);
}

TEST(SentencePieceTokenizer, RefusesVocabulariesItCannotRun) {
  Vocabulary vocabulary = SentencePieceVocabulary(kPieces);
  vocabulary.tokens[260] = vocabulary.tokens[261];
  EXPECT_EQ(MakeTokenizer(vocabulary).status().code(),
            absl::StatusCode::kInvalidArgument);
  vocabulary = SentencePieceVocabulary(kPieces);
  vocabulary.scores.clear();
  EXPECT_EQ(MakeTokenizer(vocabulary).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SentencePieceTokenizer, RunsUnigramModels) {
  SentencePieceModel model;
  model.vocabulary = SentencePieceVocabulary({"_ab", "_a", "b", "ab", "_"});
  model.is_unigram = true;
  auto tokenizer = SentencePieceTokenizer::Make(std::move(model));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(Pieces(**tokenizer, "ab"), ElementsAre(" ab"));
}

// Text without U+2581, which means a space, and with valid UTF-8 only.
TEST(SentencePieceTokenizer, RoundTripsText) {
  std::mt19937 random(31);
  for (bool add_space : {true, false}) {
    Vocabulary vocabulary = SentencePieceVocabulary(kPieces);
    vocabulary.add_space_prefix = add_space;
    auto tokenizer = Make(std::move(vocabulary));
    for (int round = 0; round < 400; ++round) {
      std::string text = RandomText(random, 40);
      if (text.find("\u2581") != text.npos) continue;
      auto ids = tokenizer->Encode(text, {});
      ASSERT_TRUE(ids.ok());
      ASSERT_EQ(tokenizer->Decode(*ids), text);
      IncrementalDecoder decoder(*tokenizer, false, /*at_text_start=*/true);
      std::string streamed;
      for (int32_t id : *ids) {
        std::string piece = decoder.Append(id);
        ASSERT_TRUE(IsValidUtf8(piece));
        streamed += piece;
      }
      ASSERT_EQ(streamed + decoder.Finish(), text);
    }
  }
}

TEST(SentencePieceTokenizer, TakesAnyBytes) {
  std::mt19937 random(37);
  auto tokenizer = Make(SentencePieceVocabulary(kPieces));
  for (int round = 0; round < 300; ++round) {
    auto ids = tokenizer->Encode(RandomBytes(random, 80), {});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_TRUE(IsValidUtf8(tokenizer->Decode(*ids)));
  }
}

TEST(SentencePieceTokenizer, IsNotSlowedByHostileTexts) {
  auto tokenizer = Make(SentencePieceVocabulary(kPieces));
  for (const NamedText& hostile : HostileTexts(1 << 18)) {
    auto start = std::chrono::steady_clock::now();
    auto ids = tokenizer->Encode(hostile.text, {.parse_special = true});
    auto time = std::chrono::steady_clock::now() - start;
    ASSERT_TRUE(ids.ok());
    EXPECT_LT(time, std::chrono::seconds(20)) << hostile.name;
    RecordProperty(hostile.name,
                   std::to_string(std::chrono::duration<double>(time).count()));
  }
}

}  // namespace
}  // namespace sentencekv
