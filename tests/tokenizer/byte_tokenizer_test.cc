#include "tests/support/byte_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sentencekv {
namespace {

using ::testing::ElementsAre;

TEST(ByteTokenizer, EncodesEveryByteAsItself) {
  std::string text;
  for (int byte = 0; byte < 256; ++byte)
    text.push_back(static_cast<char>(byte));
  ByteTokenizer tokenizer;

  auto ids = tokenizer.Encode(text, {});

  ASSERT_TRUE(ids.ok());
  ASSERT_EQ(ids->size(), 256u);
  for (int byte = 0; byte < 256; ++byte) EXPECT_EQ((*ids)[byte], byte);
  EXPECT_EQ(tokenizer.Decode(*ids), text);
}

TEST(ByteTokenizer, RecognisesControlTokensOnlyWhenAsked) {
  ByteTokenizer tokenizer(/*add_bos=*/true);
  EncodeOptions special{.parse_special = true};

  EXPECT_THAT(*tokenizer.Encode("a</s>b", special),
              ElementsAre(ByteTokenizer::kBos, 'a', ByteTokenizer::kEos, 'b'));
  EXPECT_THAT(*tokenizer.Encode("</s>", {.add_bos = false}),
              ElementsAre('<', '/', 's', '>'));
}

TEST(ByteTokenizer, RendersControlTokensOnlyWhenAsked) {
  ByteTokenizer tokenizer;

  EXPECT_EQ(tokenizer.TokenBytes(ByteTokenizer::kTurnEnd), "");
  EXPECT_EQ(tokenizer.TokenBytes(ByteTokenizer::kTurnEnd, true), "<|im_end|>");
  EXPECT_EQ(tokenizer.TokenBytes(-1, true), "");
  EXPECT_EQ(tokenizer.TokenBytes(ByteTokenizer::kVocabSize, true), "");
  EXPECT_EQ(tokenizer.FindControl("<|im_start|>"), ByteTokenizer::kTurnStart);
  EXPECT_EQ(tokenizer.FindControl("im_start"), std::nullopt);
  EXPECT_EQ(tokenizer.FindLiteral("."), '.');
  EXPECT_EQ(tokenizer.FindLiteral(".."), std::nullopt);
  EXPECT_THAT(tokenizer.stop_ids(),
              ElementsAre(ByteTokenizer::kEos, ByteTokenizer::kTurnEnd));
}

}  // namespace
}  // namespace sentencekv
