#include "tokenizer/character_bpe_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "tests/tokenizer/tiny_vocabularies.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using SpacePrefix = CharacterBpeSettings::SpacePrefix;

// The pieces of SentencePieceVocabulary with merges "▁ h", "▁h i", "a a".
Vocabulary TinyVocabulary() {
  Vocabulary vocabulary =
      SentencePieceVocabulary({"_", "h", "i", "a", "_h", "_hi", "aa"});
  vocabulary.scores.clear();
  vocabulary.merges = {"\u2581 h", "\u2581h i", "a a"};
  return vocabulary;
}

std::unique_ptr<Tokenizer> Make(const CharacterBpeSettings& settings,
                                const Vocabulary& vocabulary) {
  auto tokenizer = CharacterBpeTokenizer::Make(vocabulary, settings);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<std::string> Pieces(const Tokenizer& tokenizer,
                                std::string_view text) {
  auto ids = tokenizer.Encode(text, {.parse_special = true});
  EXPECT_TRUE(ids.ok()) << ids.status();
  std::vector<std::string> pieces;
  for (int32_t id : *ids) pieces.push_back(tokenizer.TokenBytes(id, true));
  return pieces;
}

struct PrefixCase {
  SpacePrefix prefix;
  bool only_where_missing;
  std::vector<std::string> plain;   // of "hi"
  std::vector<std::string> spaced;  // of " hi"
  std::vector<std::string> split;   // of "hi</s>hi"
};

TEST(CharacterBpeTokenizer, PutsSpacesBeforeStretches) {
  const PrefixCase cases[] = {
      {SpacePrefix::kNone,
       false,
       {"h", "i"},
       {" hi"},
       {"h", "i", "</s>", "h", "i"}},
      {SpacePrefix::kFirst, true, {" hi"}, {" hi"}, {" hi", "</s>", "h", "i"}},
      {SpacePrefix::kAll, true, {" hi"}, {" hi"}, {" hi", "</s>", " hi"}},
      {SpacePrefix::kAll, false, {" hi"}, {" ", " hi"}, {" hi", "</s>", " hi"}},
  };
  for (const PrefixCase& c : cases) {
    CharacterBpeSettings settings;
    settings.space_prefix = c.prefix;
    settings.only_where_missing = c.only_where_missing;
    auto tokenizer = Make(settings, TinyVocabulary());
    EXPECT_EQ(Pieces(*tokenizer, "hi"), c.plain);
    EXPECT_EQ(Pieces(*tokenizer, " hi"), c.spaced);
    EXPECT_EQ(Pieces(*tokenizer, "hi</s>hi"), c.split);
    EXPECT_TRUE(Pieces(*tokenizer, "").empty());
  }
}

TEST(CharacterBpeTokenizer, FallsBackToBytesElseToTheUnknownToken) {
  CharacterBpeSettings settings;
  settings.byte_fallback = true;
  EXPECT_THAT(Pieces(*Make(settings, TinyVocabulary()), "a\u20ac\xFF"),
              ElementsAre("a", "\xE2", "\x82", "\xAC", "\xFF"));
  settings.byte_fallback = false;
  EXPECT_THAT(Pieces(*Make(settings, TinyVocabulary()), "xya"),
              ElementsAre(" \u2047 ", " \u2047 ", "a"));
  settings.fuse_unknown = true;
  EXPECT_THAT(Pieces(*Make(settings, TinyVocabulary()), "xyax"),
              ElementsAre(" \u2047 ", "a", " \u2047 "));
  Vocabulary without = TinyVocabulary();
  without.unknown_id.reset();
  EXPECT_THAT(Pieces(*Make(settings, without), "xya"), ElementsAre("a"));
}

TEST(CharacterBpeTokenizer, CutsBeforeSpacesWhereAsked) {
  Vocabulary vocabulary = TinyVocabulary();
  vocabulary.tokens.push_back("\u2581\u2581");
  vocabulary.token_types.push_back(1);
  vocabulary.merges.push_back("\u2581 \u2581");
  CharacterBpeSettings settings;
  EXPECT_THAT(Pieces(*Make(settings, vocabulary), "a  a"),
              ElementsAre("a", "  ", "a"));
  settings.cut_before_spaces = true;
  EXPECT_THAT(Pieces(*Make(settings, vocabulary), "a  a"),
              ElementsAre("a", " ", " ", "a"));
}

TEST(CharacterBpeTokenizer, TakesWholeWordsWhenMergesAreIgnored) {
  Vocabulary vocabulary = TinyVocabulary();
  vocabulary.merges.clear();
  CharacterBpeSettings settings;
  EXPECT_THAT(Pieces(*Make(settings, vocabulary), "aa"), ElementsAre("a", "a"));
  vocabulary.ignore_merges = true;
  EXPECT_THAT(Pieces(*Make(settings, vocabulary), "aa"), ElementsAre("aa"));
}

TEST(CharacterBpeTokenizer, RoundTripsWithBytes) {
  CharacterBpeSettings settings;
  settings.byte_fallback = true;
  settings.space_prefix = SpacePrefix::kAll;
  settings.strips_leading_space = true;
  auto tokenizer = Make(settings, TinyVocabulary());
  std::mt19937 random(53);
  for (int round = 0; round < 300; ++round) {
    std::string text =
        round % 2 == 0 ? RandomText(random, 40) : RandomBytes(random, 60);
    if (text.find("\u2581") != text.npos) continue;
    auto ids = tokenizer->Encode(text, {});
    ASSERT_TRUE(ids.ok());
    ASSERT_EQ(tokenizer->Decode(*ids), text);
  }
}

TEST(CharacterBpeTokenizer, IsNotSlowedByHostileTexts) {
  CharacterBpeSettings settings;
  settings.byte_fallback = true;
  for (bool cut : {false, true}) {
    settings.cut_before_spaces = cut;
    auto tokenizer = Make(settings, TinyVocabulary());
    for (const NamedText& hostile : HostileTexts(1 << 18)) {
      auto start = std::chrono::steady_clock::now();
      ASSERT_TRUE(tokenizer->Encode(hostile.text, {}).ok());
      auto time = std::chrono::steady_clock::now() - start;
      EXPECT_LT(time, std::chrono::seconds(20)) << hostile.name;
    }
  }
}

TEST(CharacterBpeTokenizer, RefusesBrokenVocabularies) {
  Vocabulary vocabulary = TinyVocabulary();
  vocabulary.merges.push_back("h q");
  EXPECT_THAT(
      std::string(
          CharacterBpeTokenizer::Make(vocabulary, {}).status().message()),
      HasSubstr("merges[3] is not made of tokens"));
  vocabulary = TinyVocabulary();
  vocabulary.tokens[4] = vocabulary.tokens[5];
  EXPECT_FALSE(CharacterBpeTokenizer::Make(vocabulary, {}).ok());
}

}  // namespace
}  // namespace sentencekv
