#include "tokenizer/utf8.h"

#include <gtest/gtest.h>

namespace sentencekv {
namespace {

struct Case {
  std::string_view bytes;
  Utf8Kind kind;
  int size;
};

TEST(Utf8, ClassifiesWhatATextBeginsWith) {
  const Case cases[] = {
      {"a", Utf8Kind::kCodePoint, 1},
      {std::string_view("\0", 1), Utf8Kind::kCodePoint, 1},
      {"\xC2\x80", Utf8Kind::kCodePoint, 2},
      {"\xE2\x82\xAC!", Utf8Kind::kCodePoint, 3},
      {"\xF4\x8F\xBF\xBF", Utf8Kind::kCodePoint, 4},
      {"\xC2", Utf8Kind::kIncomplete, 1},
      {"\xE2\x82", Utf8Kind::kIncomplete, 2},
      {"\xF0\x9F\x98", Utf8Kind::kIncomplete, 3},
      {"\x80", Utf8Kind::kInvalid, 1},
      {"\xC0\xAF", Utf8Kind::kInvalid, 1},          // overlong
      {"\xE0\x80\x80", Utf8Kind::kInvalid, 1},      // overlong
      {"\xED\xA0\x80", Utf8Kind::kInvalid, 1},      // surrogate
      {"\xF4\x90\x80\x80", Utf8Kind::kInvalid, 1},  // above U+10FFFF
      {"\xF5", Utf8Kind::kInvalid, 1},
      {"\xE2\x82z", Utf8Kind::kInvalid, 2},
      {"\xF0\x9F\x98z", Utf8Kind::kInvalid, 3},
      {"\xFF", Utf8Kind::kInvalid, 1},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(testing::PrintToString(c.bytes));
    Utf8Step step = NextUtf8(c.bytes);
    EXPECT_EQ(step.kind, c.kind);
    EXPECT_EQ(step.size, c.size);
  }
}

TEST(Utf8, EncodesAndDecodesEveryCodePoint) {
  for (uint32_t code_point = 0; code_point < 0x110000; ++code_point) {
    std::string bytes = EncodeUtf8(code_point);
    ASSERT_EQ(DecodeUtf8(bytes), code_point);
    bool is_surrogate = code_point >= 0xD800 && code_point < 0xE000;
    ASSERT_EQ(IsValidUtf8(bytes), !is_surrogate) << code_point;
    if (is_surrogate) continue;
    ASSERT_EQ(NextUtf8(bytes).size, bytes.size());
  }
}

TEST(Utf8, JudgesWholeTexts) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("naïve €😀"));
  EXPECT_FALSE(IsValidUtf8("ab\xFF"));
  EXPECT_FALSE(IsValidUtf8("ab\xE2\x82"));
}

}  // namespace
}  // namespace sentencekv
