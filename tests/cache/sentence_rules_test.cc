// Where sentences end in texts of many kinds, whatever the tokenizer: the rules
// alone, without minimum and maximum.
#include <gtest/gtest.h>

#include "tests/cache/segmented_text.h"

namespace sentencekv {
namespace {

using Texts = std::vector<std::string>;

struct RuleCase {
  std::string name;
  Texts sentences;  // joined, they are the text
};

void PrintTo(const RuleCase& rule_case, std::ostream* out) {
  *out << rule_case.name;
}

std::string Joined(const Texts& sentences) {
  std::string text;
  for (const std::string& sentence : sentences) text += sentence;
  return text;
}

class SentenceRules : public testing::TestWithParam<RuleCase> {};

TEST_P(SentenceRules, HoldForEveryTokenizer) {
  const std::string text = Joined(GetParam().sentences);
  int num_tokenizers = 0;
  for (const MarkedTokenizer& tokenizer : AllTokenizers()) {
    SCOPED_TRACE(tokenizer.name);
    const auto tokens = Encode(tokenizer, text);
    // A vocabulary without some byte cannot say this text.
    const std::string decoded = tokenizer.tokenizer->Decode(tokens, true);
    if (Trimmed({decoded}) != Trimmed({text})) continue;
    ++num_tokenizers;
    EXPECT_EQ(Trimmed(SentencesOf(tokenizer, tokens, kNatural)),
              Trimmed(GetParam().sentences));
  }
  EXPECT_GE(num_tokenizers, 4);
}

// Where each token is a byte, white space belongs to the sentence before it,
// but what follows a newline to the one behind.
TEST_P(SentenceRules, PlaceWhiteSpace) {
  const Texts& sentences = GetParam().sentences;
  EXPECT_EQ(SentencesOf(Bytes(), Encode(Bytes(), Joined(sentences)), kNatural),
            sentences);
}

INSTANTIATE_TEST_SUITE_P(
    English, SentenceRules,
    testing::Values(
        RuleCase{"Plain",
                 {"He left. ", "She stayed! ", "Why? ", "Nobody knew."}},
        RuleCase{"TitlesAndInitials",
                 {"Mr. Smith met Dr. J. R. Jones. ", "They talked."}},
        RuleCase{"LatinAbbreviations",
                 {"Use fruit, e.g. Apples, i.e. good ones. ",
                  "See Fig. 3 and Miller et al. (2020). ", "It ends."}},
        RuleCase{"Countries",
                 {"The U.S. Army left at 5 p.m. Monday. ", "Yes."}},
        RuleCase{"Decimals",
                 {"Pi is 3.14 or so. ", "It costs $20,000.50. ",
                  "Version 1.2.3 is out."}},
        RuleCase{"Urls",
                 {"See https://a.example.com/x.html?q=1.5&r=a.b now. ",
                  "Or mail me@example.org. ", "Done."}},
        RuleCase{"FileNames", {"Open main.cc and foo.py first. ", "Then go."}},
        RuleCase{
            "Quotes",
            {"\"It is late.\" ", "He stood up. ", "(She did not.) ",
             "\"Why?\" he asked. ", "\u201cSo.\u201d ", "Then they left."}},
        RuleCase{"Ellipsis",
                 {"Well... maybe not... ", "Then again\u2026 ", "No."}},
        RuleCase{"Piled", {"What?! ", "Really!!! ", "Yes."}},
        RuleCase{"SmallLetterFollows", {"he said etc. and so on. then more."}},
        RuleCase{"Emphasis", {"**Note.** ", "*Really?* ", "Go on."}},
        RuleCase{"NumberedList", {"1. Wash it. ", "2. Dry it."}},
        RuleCase{"Years", {"It was 1999. ", "Then came 2000."}},
        RuleCase{"German", {"\u201eHallo.\u201c ", "Er ging."}},
        RuleCase{"Operators", {"if (a!=b) x?y:z; a.b.c(); "}},
        RuleCase{"Paragraphs",
                 {"A title\n\n", "Some text. ", "More\n \n", "The end"}},
        RuleCase{"WindowsParagraphs", {"A title\r\n\r\n", "Some text."}},
        RuleCase{"WrappedProse",
                 {"The first line goes\non here. ", "And\nthen it ends. ",
                  "So\nit is."}},
        RuleCase{"LeadingNewlines", {"\n\n\nText comes late. ", "Yes."}}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    OtherScripts, SentenceRules,
    testing::Values(RuleCase{"Chinese",
                             {"我来了。", "你好吗？", "很好！",
                              "他说：“走吧。”", "“好。”", "第一；", "第二。"}},
                    RuleCase{"ChineseAsciiMarks", {"真的吗?", "是的!", "好"}},
                    RuleCase{"Japanese",
                             {"「行こう。」", "彼は言った。",
                              "円周率は３．１４です．", "終わり"}},
                    RuleCase{"Hindi", {"यह एक वाक्य है। ", "यह दूसरा है॥ ", "बस"}},
                    RuleCase{"Arabic", {"هل أنت هنا؟ ", "نعم. ", "شكرا"}},
                    RuleCase{"Urdu", {"یہ ایک جملہ ہے۔ ", "یہ دوسرا"}},
                    RuleCase{"Amharic", {"ሰላም ነው። ", "እሺ"}},
                    RuleCase{"Khmer", {"សួស្តី។", "អរគុណ៕", "បាទ"}},
                    RuleCase{"Russian", {"Это А. С. Пушкин. ", "Да! ", "Нет"}},
                    RuleCase{"Korean", {"안녕하세요. ", "반갑습니다! ", "네"}}),
    [](const auto& info) { return info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Lines, SentenceRules,
    testing::Values(
        // The first two lines are not enough to tell that lines are the units.
        RuleCase{"Code",
                 {"int f(int a) {\n  int b = a;\n  b += 2;\n", "  return b;\n",
                  "}\n", "int g();\n"}},
        RuleCase{"Json",
                 {"{\"id\": 1, \"v\": 3.5},\n{\"id\": 2, \"v\": 4.5},\n"
                  "{\"id\": 3, \"v\": 5.5},\n",
                  "{\"id\": 4, \"v\": 20,000},\n", "{}"}},
        RuleCase{"Table",
                 {"| a | b |\n|---|---|\n| 1 | 2 |\n", "| 3 | 4 |\n",
                  "| 5 | 6 |\n", "end"}},
        // Three sentences later lines are only line breaks again.
        RuleCase{"CodeThenProse",
                 {"a = 1\nb = 2\nc = 3\n", "d = 4\n", "Here is text. ",
                  "It goes on. ", "And on. ", "It\nis wrapped. ", "Yes"}}),
    [](const auto& info) { return info.param.name; });

TEST(ChatTurns, KeepHeadersWithWhatFollows) {
  const Texts expected = {"<|im_start|>system\nBe brief. ",
                          "Be kind.<|im_end|>\n", "<|im_start|>user\nHi! ",
                          "Who\nare you<|im_end|>\n",
                          "<|im_start|>assistant\n"};
  const auto tokens = Encode(Bytes(), Joined(expected));
  EXPECT_EQ(SentencesOf(Bytes(), tokens, kNatural), expected);
  for (const MarkedTokenizer& tokenizer : AllTokenizers()) {
    if (!tokenizer.tokenizer->FindControl("<|im_start|>").has_value()) continue;
    SCOPED_TRACE(tokenizer.name);
    EXPECT_EQ(Trimmed(SentencesOf(
                  tokenizer, Encode(tokenizer, Joined(expected)), kNatural)),
              Trimmed(expected));
  }
}

// Also where lines are the units.
TEST(ChatTurns, KeepHeadersInCode) {
  const Texts expected = {"<|im_start|>user\na=1\nb=2\nc=3\n", "d=4\n",
                          "e=5<|im_end|>\n", "<|im_start|>assistant\nf=6\n",
                          "g=7"};
  const auto tokens = Encode(Bytes(), Joined(expected));
  EXPECT_EQ(SentencesOf(Bytes(), tokens, kNatural), expected);
}

TEST(ChatTurns, KnowTheHeadersOfLlama3) {
  const Texts expected = {
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe "
      "kind. ",
      "Be brief.<|eot_id|>",
      "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>",
      "<|start_header_id|>assistant<|end_header_id|>\n\n"};
  for (const MarkedTokenizer& tokenizer : AllTokenizers()) {
    if (tokenizer.name != "llama3") continue;
    const auto tokens = Encode(tokenizer, Joined(expected));
    ASSERT_TRUE(tokenizer.tokenizer->is_control(tokens[0]));
    EXPECT_EQ(Trimmed(SentencesOf(tokenizer, tokens, kNatural)),
              Trimmed(expected));
    return;
  }
  FAIL() << "no llama3 tokenizer";
}

TEST(ChatTurns, KnowTurnsOfLlama2) {
  const Texts expected = {"<s>[INST] Who are you? ", "Say. ",
                          "[/INST] Nobody. ", "Really </s>",
                          "<s>[INST] Oh [/INST]"};
  const auto tokens = Encode(Bytes(), Joined(expected));
  EXPECT_EQ(SentencesOf(Bytes(), tokens, kNatural), expected);
}

// Where no control token begins a turn, the end of the one before does.
TEST(ChatTurns, KnowTurnsOfMistral) {
  const Texts expected = {"<s>[INST] Who are you? ", "[/INST] Nobody</s>",
                          "[INST] Oh [/INST]"};
  const auto tokens = Encode(Bytes(), Joined(expected));
  EXPECT_EQ(SentencesOf(Bytes(), tokens, kNatural), expected);
}

// A beginning of text is no header: the first line is.
TEST(ChatTurns, TakeOnlyOneWordForAHeader) {
  const Texts expected = {"<s>A title\n\n", "Text"};
  const auto tokens = Encode(Bytes(), Joined(expected));
  EXPECT_EQ(SentencesOf(Bytes(), tokens, kNatural), expected);
}

}  // namespace
}  // namespace sentencekv
