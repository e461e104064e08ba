#include "tokenizer/literal_matcher.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace sentencekv {
namespace {

TEST(LiteralMatcher, FindsNothingWhenEmpty) {
  LiteralMatcher matcher;
  EXPECT_TRUE(matcher.empty());
  EXPECT_FALSE(matcher.Find("anything", 0).has_value());
  EXPECT_FALSE(matcher.MatchAt("", 0).has_value());
}

TEST(LiteralMatcher, TakesTheFirstPositionThenTheLongestLiteral) {
  LiteralMatcher matcher;
  matcher.Add("<s>", 1);
  matcher.Add("<s><s>", 2);
  matcher.Add("s>", 3);

  auto match = matcher.Find("ab<s><s><s>", 0);
  ASSERT_TRUE(match.has_value());
  EXPECT_EQ(match->id, 2);
  EXPECT_EQ(match->begin, 2u);
  EXPECT_EQ(match->end, 8u);
  match = matcher.Find("ab<s><s><s>", 3);
  ASSERT_TRUE(match.has_value());
  EXPECT_EQ(match->id, 3);
  EXPECT_FALSE(matcher.Find("<s", 0).has_value());
}

// Against trying every literal at every position.
TEST(LiteralMatcher, AgreesWithPlainSearch) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    auto draw = [&random](size_t longest) {
      std::string text(1 + random() % longest, 'a');
      for (char& c : text) c = static_cast<char>('a' + random() % 3);
      return text;
    };
    std::vector<std::string> literals;
    LiteralMatcher matcher;
    for (int id = 0; id < 6; ++id) {
      literals.push_back(draw(5));
      matcher.Add(literals.back(), id);
    }
    std::string text = draw(40);
    for (size_t position = 0; position < text.size(); ++position) {
      size_t longest = 0;
      for (const std::string& literal : literals) {
        bool is_here = text.compare(position, literal.size(), literal) == 0;
        if (is_here) longest = std::max(longest, literal.size());
      }
      auto match = matcher.MatchAt(text, position);
      ASSERT_EQ(match.has_value(), longest > 0) << text << " " << position;
      if (longest == 0) continue;
      ASSERT_EQ(match->end - match->begin, longest);
    }
  }
}

}  // namespace
}  // namespace sentencekv
