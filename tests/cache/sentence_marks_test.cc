#include "cache/sentence_marks.h"

#include <gtest/gtest.h>

#include "cache/last_word.h"
#include "tests/cache/segmented_text.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/tokenizer/tiny_vocabularies.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

TEST(TextSymbols, KeepAsciiAndClassifyTheRest) {
  EXPECT_EQ(SymbolOf('a'), 'a');
  EXPECT_EQ(KindOf('a'), SymbolKind::kLowerLetter);
  EXPECT_EQ(KindOf('.'), SymbolKind::kFullStop);
  EXPECT_EQ(KindOf('\n'), SymbolKind::kNewline);
  const std::pair<uint32_t, SymbolKind> cases[] = {
      {0xE9, SymbolKind::kLowerLetter}, {0x41F, SymbolKind::kUpperLetter},
      {0x2026, SymbolKind::kSoftEnd},   {0x3002, SymbolKind::kHardEnd},
      {0x964, SymbolKind::kHardEnd},    {0x61F, SymbolKind::kHardEnd},
      {0x1362, SymbolKind::kHardEnd},   {0x17D5, SymbolKind::kHardEnd},
      {0xFF0E, SymbolKind::kWideStop},  {0xFF0C, SymbolKind::kWideClause},
      {0x300D, SymbolKind::kCloser},    {0x201C, SymbolKind::kOpeningQuote},
      {0x3000, SymbolKind::kSpace},     {0x4E00, SymbolKind::kIdeograph},
      {0xFF15, SymbolKind::kDigit},     {0x80, SymbolKind::kOther},
      {0x1F600, SymbolKind::kOther},    {0xFFFFFFFF, SymbolKind::kOther},
      {0x2028, SymbolKind::kNewline},   {0x20000, SymbolKind::kIdeograph}};
  for (const auto& [code_point, kind] : cases) {
    EXPECT_GE(SymbolOf(code_point), 0x80) << code_point;
    EXPECT_EQ(KindOf(SymbolOf(code_point)), kind) << code_point;
  }
  EXPECT_EQ(KindOf(BrokenSymbol()), SymbolKind::kOther);
}

bool IsAbbreviated(std::string_view text) {
  LastWord word;
  for (char c : text) word.Read(static_cast<TextSymbol>(c));
  return word.IsAbbreviation();
}

TEST(LastWord, KnowsAbbreviations) {
  for (const char* text : {"Mr", "mrs", "PROF", "see Fig", "et al", "J", "e.g",
                           "i.e", "U.S", "at 5 p.m", "approx", "(Dr", "Ph.D"}) {
    EXPECT_TRUE(IsAbbreviated(text)) << text;
  }
  for (const char* text :
       {"", " ", "dog", "Mr ", "Mr)", "a", "armr", "mrx", "e.eg", "3",
        "www.example.com", "J.", "e. g", "messrsmessrsmr"}) {
    EXPECT_FALSE(IsAbbreviated(text)) << text;
  }
}

TEST(SentenceMarks, TellRolesFromControlTokens) {
  const SentenceMarks& marks = *Bytes().marks;
  EXPECT_EQ(marks.Of(ByteTokenizer::kBos).role, TokenRole::kTurnOpener);
  EXPECT_EQ(marks.Of(ByteTokenizer::kTurnStart).role, TokenRole::kTurnOpener);
  EXPECT_EQ(marks.Of(ByteTokenizer::kEos).role, TokenRole::kTurnCloser);
  EXPECT_EQ(marks.Of(ByteTokenizer::kTurnEnd).role, TokenRole::kTurnCloser);
  EXPECT_EQ(marks.Of('x').role, TokenRole::kText);
  EXPECT_EQ(marks.Of('x').symbols, "x");
  EXPECT_EQ(marks.Of(0xE3).role, TokenRole::kFragment);
  EXPECT_EQ(marks.Of(0xE3).symbols, "\xE3");
  for (int32_t outside : {-1, ByteTokenizer::kVocabSize, INT32_MAX}) {
    EXPECT_EQ(marks.Of(outside).role, TokenRole::kText);
    EXPECT_EQ(marks.Of(outside).symbols, "");
  }
}

// One symbol a code point, and control tokens by their role alone.
TEST(SentenceMarks, ReadEveryTokenOfEveryVocabulary) {
  for (const MarkedTokenizer& tokenizer : AllTokenizers()) {
    SCOPED_TRACE(tokenizer.name);
    for (int32_t id = 0; id < tokenizer.tokenizer->vocab_size(); ++id) {
      const TokenMarks marks = tokenizer.marks->Of(id);
      const std::string bytes = tokenizer.tokenizer->TokenBytes(id);
      const bool is_control = marks.role == TokenRole::kTurnOpener ||
                              marks.role == TokenRole::kTurnCloser;
      ASSERT_EQ(is_control, tokenizer.tokenizer->is_control(id)) << id;
      if (marks.role == TokenRole::kFragment) {
        ASSERT_FALSE(IsValidUtf8(bytes)) << id;
        ASSERT_EQ(marks.symbols, bytes) << id;
      } else {
        ASSERT_TRUE(IsValidUtf8(bytes)) << id;
        const auto num_code_points =
            std::count_if(bytes.begin(), bytes.end(),
                          [](char c) { return (c & 0xC0) != 0x80; });
        ASSERT_EQ(marks.symbols.size(), size_t(num_code_points)) << id;
      }
    }
  }
}

TEST(SentenceMarks, AreFullOfFragmentsWhereBytesAreTokens) {
  auto tokenizer = *MakeTokenizer(
      ByteLevelVocabulary("gpt-2", {"\xE3 \x80", "\xE3\x80 \x82", ". _"}));
  const SentenceMarks marks = SentenceMarks::Build(*tokenizer);
  EXPECT_EQ(marks.Of(256).role, TokenRole::kFragment);
  EXPECT_EQ(marks.Of(257).symbols.size(), 1u);
  EXPECT_EQ(KindOf(static_cast<TextSymbol>(marks.Of(257).symbols[0])),
            SymbolKind::kHardEnd);
  EXPECT_EQ(marks.Of(258).symbols, ". ");
}

}  // namespace
}  // namespace sentencekv
