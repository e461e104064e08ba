// Joining short sentences and splitting long ones.
#include "cache/segmenter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cache/segmented_text.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/tokenizer/tiny_vocabularies.h"

namespace sentencekv {
namespace {

using testing::ElementsAre;
using Texts = std::vector<std::string>;

// One token a byte.
Texts Split(std::string_view text, int64_t min_tokens, int64_t max_tokens) {
  return SentencesOf(Bytes(), Encode(Bytes(), text), {min_tokens, max_tokens});
}

std::string Repeat(std::string_view unit, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += unit;
  return text;
}

TEST(Segmenter, IsEmptyAtFirst) {
  Segmenter segmenter(Bytes().marks, {});
  EXPECT_TRUE(segmenter.ends().empty());
  EXPECT_EQ(segmenter.num_tokens(), 0);
  EXPECT_EQ(segmenter.open_begin(), 0);
  segmenter.Append({});
  EXPECT_EQ(segmenter.num_tokens(), 0);
}

TEST(Segmenter, SpeaksOneTokenLate) {
  Segmenter segmenter(Bytes().marks, {.min_tokens = 2, .max_tokens = 32});
  for (char byte : std::string_view("It is. ")) {
    const int32_t token = byte;
    segmenter.Append({&token, 1});
    EXPECT_EQ(segmenter.open_begin(), 0);
  }
  const int32_t token = 'Y';
  segmenter.Append({&token, 1});
  EXPECT_THAT(segmenter.ends(), ElementsAre(7));
  EXPECT_EQ(segmenter.open_begin(), 7);
  EXPECT_EQ(segmenter.num_tokens(), 8);
}

TEST(Segmenter, JoinsShortSentences) {
  EXPECT_THAT(Split("No. Yes. Go on. It is all well. Oh", 8, 32),
              ElementsAre("No. Yes. ", "Go on. It is all well. ", "Oh"));
  EXPECT_THAT(Split("No. Yes. Go on. It is all well. Oh", 9, 32),
              ElementsAre("No. Yes. ", "Go on. It is all well. ", "Oh"));
  EXPECT_THAT(Split("No. Yes. Go on. It is all well. Oh", 10, 32),
              ElementsAre("No. Yes. Go on. ", "It is all well. ", "Oh"));
}

TEST(Segmenter, EndsParagraphsHoweverShort) {
  EXPECT_THAT(Split("A.\n\nB\n\nC. D.\n\nE", 8, 32),
              ElementsAre("A.\n\n", "B\n\n", "C. D.\n\n", "E"));
}

TEST(Segmenter, EndsTurnsHoweverShort) {
  EXPECT_THAT(
      Split("<|im_start|>user\nA. B.<|im_end|>\n<|im_start|>user\nC", 16, 32),
      ElementsAre("<|im_start|>user\nA. B.<|im_end|>\n",
                  "<|im_start|>user\nC"));
}

TEST(Segmenter, JoinsManySentencesOfOneCharacter) {
  // Small letters follow, so these are no ends, but good places to split.
  for (const std::string& sentence : Trimmed(Split(Repeat("a! ", 44), 8, 32))) {
    EXPECT_EQ(sentence.substr(0, 5), "a! a!");
    EXPECT_EQ(sentence.back(), '!');
  }
  const Texts ideographs = Split(Repeat("好。", 40), 8, 32);
  ASSERT_EQ(ideographs.size(), 20u);
  for (const std::string& sentence : ideographs) {
    EXPECT_EQ(sentence, "好。好。");
  }
}

TEST(Segmenter, SplitsAtAClauseMark) {
  EXPECT_THAT(Split("one two three four, five six seven eight", 8, 32),
              ElementsAre("one two three four, ", "five six seven eight"));
  // Not in the first half, where a later space is better.
  EXPECT_THAT(Split("one two, three four five six seven eight", 8, 32),
              ElementsAre("one two, three four five six ", "seven eight"));
}

TEST(Segmenter, SplitsNoNumber) {
  EXPECT_THAT(Split("they paid about xx 20,000 xxxxxxxxxxxxxxx", 8, 32),
              ElementsAre("they paid about xx 20,000 ", "xxxxxxxxxxxxxxx"));
  EXPECT_THAT(Split("xxxxxxxxxxxx 1,234,567,890,123,456,789", 8, 32),
              ElementsAre("xxxxxxxxxxxx ", "1,234,567,890,123,456,789"));
  EXPECT_THAT(Split("they met at exactly the 10:30:00:00 time", 8, 32),
              ElementsAre("they met at exactly the ", "10:30:00:00 time"));
}

TEST(Segmenter, SplitsWordsOnlyWhereThereIsNothingElse) {
  EXPECT_THAT(Split(Repeat("x", 70), 8, 32),
              ElementsAre(Repeat("x", 32), Repeat("x", 32), Repeat("x", 6)));
  EXPECT_THAT(Split("xxxxxxxxx " + Repeat("y", 30), 8, 32),
              ElementsAre("xxxxxxxxx ", Repeat("y", 30)));
}

TEST(Segmenter, SplitsNumbersAndAddressesBehindAMark) {
  EXPECT_THAT(Split("[1,9690,198,2683,359,253,5356,5646,11173]", 8, 32),
              ElementsAre("[1,9690,198,2683,359,253,5356,", "5646,11173]"));
  EXPECT_THAT(Split("https://example.com/one/two/threefour", 8, 32),
              ElementsAre("https://example.com/one/two/", "threefour"));
  // Not behind the point of a number.
  EXPECT_THAT(Split("1234567890123456789012345678.5678", 8, 32),
              ElementsAre("1234567890123456789012345678.567", "8"));
}

TEST(Segmenter, SplitsNoCodePoint) {
  for (const std::string& part : Split(Repeat("好", 60), 8, 32)) {
    EXPECT_EQ(part.size() % 3, 0u);
    EXPECT_LE(part.size(), 32u);
  }
}

TEST(Segmenter, SplitsEndlessSentences) {
  std::string text = "So it went";
  for (int i = 0; i < 100; ++i) text += " and on";
  const Texts sentences = Split(text, 8, 32);
  for (size_t i = 0; i + 1 < sentences.size(); ++i) {
    EXPECT_LE(sentences[i].size(), 32u);
    EXPECT_GT(sentences[i].size(), 24u);
    EXPECT_EQ(sentences[i].back(), ' ');
  }
}

// White space may keep an end undecided, but not for longer than a sentence.
TEST(Segmenter, SplitsEndlessWhiteSpace) {
  const Texts sentences = Split("It is. " + Repeat(" ", 100) + "A", 2, 8);
  EXPECT_EQ(sentences[0], "It is.  ");
  EXPECT_EQ(sentences.size(), 15u);
  EXPECT_EQ(sentences.back(), "A");
}

TEST(Segmenter, KeepsALongSentenceWithinBounds) {
  const Texts sentences = Split(
      "A sentence of thirty-two tokens. A sentence of thirty-three tokens.", 8,
      33);
  EXPECT_EQ(sentences[0], "A sentence of thirty-two tokens. ");
  EXPECT_EQ(Split("A sentence of thirty-two tokens. And more", 8, 32)[0],
            "A sentence of thirty-two tokens.");
}

// No tokenizer here makes such tokens of a text, but vocabularies may have
// them.
TEST(Segmenter, GivesATokenWithAnEndInsideToTheSentenceThatEnds) {
  auto tokenizer = *MakeTokenizer(
      ByteLevelVocabulary("gpt-2", {"! _", "!_ A", "\xE3 \x80", "\xE3\x80 \x82",
                                    "\xE3\x80\x82 \xE5", "\n \n", "\n\n A"}));
  const int32_t exclamation = 257;  // "! A"
  const int32_t full_stop = 260;    // "。" and the first byte of "好"
  const int32_t paragraph = 262;    // "\n\nA"
  MarkedTokenizer marked = {
      "inside", nullptr,
      std::make_shared<const SentenceMarks>(SentenceMarks::Build(*tokenizer))};
  auto ends = [&marked](std::vector<int32_t> tokens) {
    return EndsOf(marked, tokens, kNatural);
  };
  EXPECT_THAT(ends({'x', exclamation, 'y'}), ElementsAre(2));
  EXPECT_THAT(ends({'x', paragraph, 'y'}), ElementsAre(2));
  EXPECT_THAT(ends({'x', full_stop, 0xA5, 0xBD, 'y'}), ElementsAre(4));
  // The code point is broken off: what it followed ended with its token.
  EXPECT_THAT(ends({'x', full_stop, 'y', 'z'}), ElementsAre(2));
  EXPECT_THAT(EndsOf(marked, std::vector<int32_t>{'x', paragraph, 'y'}, {}),
              ElementsAre(2));
}

TEST(Segmenter, CountsTokensWithoutText) {
  Segmenter segmenter(Bytes().marks, {.min_tokens = 8, .max_tokens = 32});
  std::vector<int32_t> unknown(100, ByteTokenizer::kVocabSize + 5);
  unknown[3] = -1;
  segmenter.Append(unknown);
  EXPECT_THAT(segmenter.ends(), ElementsAre(32, 64, 96));
}

TEST(Segmenter, CopiesGoTheirOwnWays) {
  Segmenter first(Bytes().marks, {.min_tokens = 2, .max_tokens = 32});
  first.Append(Encode(Bytes(), "It is so. It"));
  Segmenter second = first;
  first.Append(Encode(Bytes(), " was. Yes"));
  second.Append(Encode(Bytes(), "\n\nOh"));
  EXPECT_THAT(first.ends(), ElementsAre(10, 18));
  EXPECT_THAT(second.ends(), ElementsAre(10, 14));
}

TEST(SegmenterDeathTest, RefusesBoundsThatCannotBeKept) {
  EXPECT_DEATH(Segmenter(Bytes().marks, {.min_tokens = 0}), "min_tokens");
  EXPECT_DEATH(Segmenter(Bytes().marks, {.min_tokens = 9, .max_tokens = 8}),
               "max_tokens");
  EXPECT_DEATH(Segmenter(nullptr, {}), "marks_");
}

}  // namespace
}  // namespace sentencekv
