#include "tokenizer/pretokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "tests/tokenizer/tiny_vocabularies.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

// The words of `text`, joined by "|".
std::string Words(std::string_view pre, std::string_view text) {
  auto pretokenizer = Pretokenizer::Make(pre);
  if (!pretokenizer.ok()) return pretokenizer.status().ToString();
  auto words = (*pretokenizer)->Split(text);
  if (!words.ok()) return words.status().ToString();
  std::string joined;
  for (std::string_view word : *words) {
    if (!joined.empty()) joined += "|";
    joined += word;
  }
  return joined;
}

struct Case {
  std::string text;
  std::string gpt2;
  std::string llama3;
  std::string smollm;
};

TEST(Pretokenizer, CutsTextAsEachFamilyDoes) {
  const Case cases[] = {
      {"Hello world", "Hello| world", "Hello| world", "Hello| world"},
      {"a  b", "a| | b", "a| | b", "a| | b"},
      {"a   ", "a|   ", "a|   ", "a|   "},
      {"x12345 67", "x|12345| 67", "x|123|45| |67", "x|1|2|3|4|5| |6|7"},
      {"I'm HE'S", "I|'m| HE|'|S", "I|'m| HE|'S", "I|'m| HE|'|S"},
      {"(x) .y", "(|x|)| .|y", "(x|)| .|y", "(|x|)| .|y"},
      {"a\n\n b\r\n", "a|\n\n| b|\r\n", "a|\n\n| b|\r\n", "a|\n\n| b|\r\n"},
      {"end.\n\nNext", "end|.|\n|\n|Next", "end|.\n\n|Next",
       "end|.|\n|\n|Next"},
      {" \n x", " \n| x", " \n| x", " \n| x"},
      {"\u00e9t\u00e9 \u4e16\u754c", "\u00e9t\u00e9| \u4e16\u754c",
       "\u00e9t\u00e9| \u4e16\u754c", "\u00e9t\u00e9| \u4e16\u754c"},
      {"a\u00a0b", "a|\u00a0|b", "a|\u00a0b", "a|\u00a0|b"},
      // U+180E is no white space (Unicode 6.3), U+0085 is.
      {"a \u180e", "a| \u180e", "a| \u180e", "a| \u180e"},
      {"! \u0085", "!| \u0085", "!| \u0085", "!| \u0085"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    EXPECT_EQ(Words("gpt-2", c.text), c.gpt2);
    EXPECT_EQ(Words("llama-bpe", c.text), c.llama3);
    EXPECT_EQ(Words("smollm", c.text), c.smollm);
  }
}

TEST(Pretokenizer, TakesBrokenUtf8ForPunctuation) {
  EXPECT_EQ(Words("gpt-2", "a\xFF\xFE b\x80"), "a|\xFF\xFE| b|\x80");
  EXPECT_EQ(Words("smollm", " \xE2\x82!1"), " \xE2\x82!|1");
  EXPECT_EQ(Words("llama3", "\xF0\x9Fx"), "\xF0\x9F|x");
  EXPECT_EQ(Words("gpt-2", ""), "");
}

TEST(Pretokenizer, LosesNothing) {
  std::mt19937 random(5);
  for (const char* pre : {"gpt-2", "llama-bpe", "smollm"}) {
    auto pretokenizer = *Pretokenizer::Make(pre);
    for (int round = 0; round < 300; ++round) {
      std::string text =
          round % 2 == 0 ? RandomText(random, 50) : RandomBytes(random, 100);
      auto words = pretokenizer->Split(text);
      ASSERT_TRUE(words.ok());
      std::string joined;
      for (std::string_view word : *words) {
        ASSERT_FALSE(word.empty());
        joined += word;
      }
      ASSERT_EQ(joined, text);
    }
  }
}

TEST(Pretokenizer, NamesWhatItDoesNotKnow) {
  auto made = Pretokenizer::Make("tekken");
  EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(made.status().message()), HasSubstr("tekken"));
}

TEST(Pretokenizer, KnowsWhoIgnoresMerges) {
  EXPECT_TRUE((*Pretokenizer::Make("llama-v3"))->ignore_merges());
  EXPECT_FALSE((*Pretokenizer::Make("smollm"))->ignore_merges());
}

}  // namespace
}  // namespace sentencekv
