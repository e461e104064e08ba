#include "tokenizer/incremental_decoder.h"

#include <gtest/gtest.h>

#include "tests/support/byte_tokenizer.h"
#include "tests/tokenizer/tiny_vocabularies.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

// What the decoder gives for each byte of `bytes`, joined by "|", then Finish.
std::string Stream(std::string_view bytes) {
  ByteTokenizer tokenizer;
  IncrementalDecoder decoder(tokenizer);
  std::string stream;
  for (char byte : bytes) {
    stream += decoder.Append(static_cast<uint8_t>(byte)) + "|";
  }
  return stream + decoder.Finish();
}

TEST(IncrementalDecoder, HoldsBackIncompleteSequences) {
  EXPECT_EQ(Stream("ab"), "a|b|");
  EXPECT_EQ(Stream("\u00e9"), "|\u00e9|");
  EXPECT_EQ(Stream("\u20ac!"), "||\u20ac|!|");
  EXPECT_EQ(Stream("\U0001F600"), "|||\U0001F600|");
}

TEST(IncrementalDecoder, ReplacesWhatCanNotBecomeValid) {
  EXPECT_EQ(Stream("\xFF"), "\uFFFD|");
  EXPECT_EQ(Stream("\x80\x80"), "\uFFFD|\uFFFD|");
  EXPECT_EQ(Stream("\xE2\x82z"), "||\uFFFDz|");
  EXPECT_EQ(Stream("\xE2\x82\xC3\xA9"), "||\uFFFD|\u00e9|");
  EXPECT_EQ(Stream("\xED\xA0\x80"), "|\uFFFD\uFFFD|\uFFFD|");
  EXPECT_EQ(Stream("\xF0\x9F"), "||\uFFFD");
}

TEST(IncrementalDecoder, FinishesOnce) {
  ByteTokenizer tokenizer;
  IncrementalDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.Append(0xE2), "");
  EXPECT_EQ(decoder.Finish(), "\uFFFD");
  EXPECT_EQ(decoder.Finish(), "");
  EXPECT_EQ(decoder.Append('a'), "a");
}

TEST(IncrementalDecoder, RendersControlTokensOnlyWhenAsked) {
  ByteTokenizer tokenizer;
  IncrementalDecoder silent(tokenizer);
  EXPECT_EQ(silent.Append(ByteTokenizer::kEos), "");
  IncrementalDecoder open(tokenizer, /*render_special=*/true);
  EXPECT_EQ(open.Append(ByteTokenizer::kEos), "</s>");
  EXPECT_EQ(open.Append(-5), "");
}

// A tokenizer whose texts begin with a space to be removed.
class SpacedTokenizer : public ByteTokenizer {
 public:
  bool strips_leading_space() const override { return true; }
};

TEST(IncrementalDecoder, StripsOneSpaceAtTheStartOfAText) {
  SpacedTokenizer tokenizer;
  IncrementalDecoder start(tokenizer, false, /*at_text_start=*/true);
  EXPECT_EQ(start.Append(ByteTokenizer::kBos), "");
  EXPECT_EQ(start.Append(' '), "");
  EXPECT_EQ(start.Append(' '), " ");
  IncrementalDecoder middle(tokenizer);
  EXPECT_EQ(middle.Append(' '), " ");
  IncrementalDecoder word(tokenizer, false, true);
  EXPECT_EQ(word.Append('a'), "a");
  EXPECT_EQ(word.Append(' '), " ");
}

// `bytes` with every maximal broken stretch replaced.
std::string Repair(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    Utf8Step step = NextUtf8(bytes);
    text += step.kind == Utf8Kind::kCodePoint ? bytes.substr(0, step.size)
                                              : kReplacementCharacter;
    bytes.remove_prefix(step.size);
  }
  return text;
}

TEST(IncrementalDecoder, GivesTheWholeTextInValidPieces) {
  std::mt19937 random(17);
  auto bpe = *MakeTokenizer(
      ByteLevelVocabulary("gpt-2", {"\xF0 \x9F", "\xF0\x9F \x98", "a b"}));
  for (int round = 0; round < 500; ++round) {
    IncrementalDecoder decoder(*bpe, round % 2 == 0, round % 3 == 0);
    std::vector<int32_t> ids(random() % 40);
    std::string text;
    for (int32_t& id : ids) {
      id = static_cast<int32_t>(random() % (bpe->vocab_size() + 2)) - 1;
      std::string piece = decoder.Append(id);
      ASSERT_TRUE(IsValidUtf8(piece));
      text += piece;
    }
    text += decoder.Finish();
    ASSERT_EQ(text, Repair(bpe->Decode(ids, round % 2 == 0)));
  }
}

}  // namespace
}  // namespace sentencekv
