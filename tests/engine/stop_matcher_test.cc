#include "engine/stop_matcher.h"

#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

struct Outcome {
  std::string text;
  std::optional<std::string> match;
  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << "'" << outcome.text << "', match "
             << outcome.match.value_or("(none)");
}

Outcome Match(const std::vector<std::string>& stops,
              const std::vector<std::string>& pieces, bool include = false) {
  StopMatcher matcher(stops);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    outcome.match = matcher.Append(piece, include, &outcome.text);
    if (outcome.match.has_value()) return outcome;
  }
  matcher.Flush(&outcome.text);
  return outcome;
}

// The definition, at the cost of looking at every place: the match whose end
// comes first, the longest of those.
Outcome Naive(const std::vector<std::string>& stops, const std::string& text,
              bool include) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string_view prefix(text.data(), end);
    const std::string* best = nullptr;
    for (const std::string& stop : stops) {
      if (stop.empty() || !prefix.ends_with(stop)) continue;
      if (best == nullptr || stop.size() > best->size()) best = &stop;
    }
    if (best != nullptr) {
      return {text.substr(0, end - (include ? 0 : best->size())), *best};
    }
  }
  return {text, std::nullopt};
}

TEST(StopMatcher, TrimsAtTheMatch) {
  struct Case {
    std::vector<std::string> stops;
    std::vector<std::string> pieces;
    bool include;
    Outcome expected;
  };
  const Case cases[] = {
      {{}, {"abc"}, false, {"abc", std::nullopt}},
      {{""}, {"abc"}, false, {"abc", std::nullopt}},
      {{"b"}, {"abc"}, false, {"a", "b"}},
      {{"b"}, {"abc"}, true, {"ab", "b"}},
      {{"END"}, {"xE", "N", "", "Dy"}, false, {"x", "END"}},
      {{"END"}, {"xE", "N", "", "Dy"}, true, {"xEND", "END"}},
      {{"END"}, {"xEN"}, false, {"xEN", std::nullopt}},
      {{"END"}, {"EENEND"}, false, {"EEN", "END"}},
      // The match that ends first wins, wherever it begins ...
      {{"abc", "b"}, {"xabc"}, false, {"xa", "b"}},
      // ... and the longest of those that end together.
      {{"c", "abc", "bc"}, {"xabc"}, false, {"x", "abc"}},
      {{"aab"}, {"aaab"}, false, {"a", "aab"}},
      {{"\n\n"}, {"a\n", "b\n", "\nc"}, false, {"a\nb", "\n\n"}},
      {{"é!"}, {"ca", "fé", "!"}, false, {"caf", "é!"}},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Match(c.stops, c.pieces, c.include), c.expected);
  }
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBeginAMatch) {
  StopMatcher matcher({"\n\nUser:", "stop"});
  std::string out;
  matcher.Append("Hello\n", false, &out);
  EXPECT_EQ(out, "Hello");
  matcher.Append("\nUs", false, &out);
  EXPECT_EQ(out, "Hello");
  matcher.Append("age", false, &out);
  EXPECT_EQ(out, "Hello\n\nUsage");
  matcher.Append(" sto", false, &out);
  EXPECT_EQ(out, "Hello\n\nUsage ");
  matcher.Append("ry", false, &out);
  EXPECT_EQ(out, "Hello\n\nUsage story");
}

// Over a small alphabet, so that matches and near misses are many: the same
// result as the definition, however the text is cut, and at no moment a
// character that the result does not begin with.
TEST(StopMatcher, AgreesWithTheDefinitionOnRandomText) {
  for (uint32_t seed = 1; seed <= 4000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const int letters = 2 + random() % 2;
    auto word = [&](size_t size) {
      std::string text;
      for (size_t i = 0; i < size; ++i) text += 'a' + random() % letters;
      return text;
    };
    std::vector<std::string> stops;
    for (size_t i = random() % 4; i > 0; --i)
      stops.push_back(word(random() % 7));
    const std::string text = word(random() % 60);
    const bool include = random() % 2 == 0;
    const Outcome expected = Naive(stops, text, include);

    StopMatcher matcher(stops);
    Outcome outcome;
    for (size_t begin = 0; begin < text.size() && !outcome.match;) {
      const size_t size = random() % 5;
      outcome.match =
          matcher.Append(text.substr(begin, size), include, &outcome.text);
      begin += size;
      ASSERT_TRUE(expected.text.starts_with(outcome.text));
    }
    if (!outcome.match) matcher.Flush(&outcome.text);
    ASSERT_EQ(outcome, expected);
  }
}

}  // namespace
}  // namespace sentencekv
