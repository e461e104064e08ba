// What holds for any text, any tokenizer and any way of feeding.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <regex>

#include "tests/cache/segmented_text.h"
#include "tests/support/test_files.h"
#include "tests/tokenizer/tiny_vocabularies.h"

namespace sentencekv {
namespace {

using Ids = std::vector<int32_t>;

// Pieces that mean something to the rules, in any order.
std::string RandomSentences(std::mt19937& random, int num_pieces) {
  static const std::vector<std::string> kPieces = {
      "the ",
      "Mr. ",
      "word",
      "It ",
      ". ",
      "! ",
      "?\" ",
      "...",
      "…",
      "\n",
      "\n\n",
      "\r\n",
      "    ",
      ", ",
      "20,000",
      "3.14",
      "e.g.",
      "U.S. ",
      "。",
      "」",
      "你好",
      "؟ ",
      "।",
      "３．",
      ")",
      "\"",
      "“",
      ": ",
      "<s>",
      "</s>",
      "a",
      "<|im_start|>user\n",
      "<|im_end|>\n",
      "<|eot_id|>",
      "<|start_header_id|>",
      "https://a.b/c?d ",
      "\u00a0",
      "ends here. ",
      "a longer stretch of words without a mark "};
  std::string text;
  for (int i = 0; i < num_pieces; ++i)
    text += kPieces[random() % kPieces.size()];
  return text;
}

// Texts of rules, of anything, and ids that no text gives.
Ids RandomTokens(std::mt19937& random, const MarkedTokenizer& tokenizer) {
  switch (random() % 4) {
    case 0:
      return Encode(tokenizer, RandomText(random, random() % 300));
    case 1: {
      Ids ids(random() % 300);
      for (int32_t& id : ids) {
        id = int32_t(random() % (tokenizer.tokenizer->vocab_size() + 2)) - 1;
      }
      return ids;
    }
    default:
      return Encode(tokenizer, RandomSentences(random, random() % 150));
  }
}

SegmenterOptions RandomOptions(std::mt19937& random) {
  if (random() % 2 == 0) return {};
  const int64_t min_tokens = 1 + random() % 12;
  return {min_tokens, min_tokens + int64_t(random() % 40)};
}

// White space, or bytes of a no-break space.
bool IsBlank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f\xC2\xA0") == text.npos;
}

// Whether a paragraph or turn may end with the first `end` tokens: the white
// space around has two newlines or a control token.
bool MayBeShort(const Tokenizer& tokenizer, std::span<const int32_t> tokens,
                int32_t end) {
  const int32_t next = tokens[end];
  if (tokenizer.is_control(next)) return true;
  std::string around = tokenizer.TokenBytes(next);
  for (int32_t i = end - 1; i >= 0; --i) {
    if (tokenizer.is_control(tokens[i])) return true;
    const std::string bytes = tokenizer.TokenBytes(tokens[i]);
    around = bytes + around;
    if (!IsBlank(bytes)) break;
  }
  static const std::regex kTwoLines("\n[^]*\n|\xC2\x85|\xE2\x80[\xA8\xA9]");
  return std::regex_search(around, kTwoLines);
}

template <typename Check>
void ForManyTexts(int num_rounds, Check check) {
  for (const MarkedTokenizer& tokenizer : AllTokenizers()) {
    SCOPED_TRACE(tokenizer.name);
    std::mt19937 random(23);
    for (int round = 0; round < num_rounds; ++round) {
      SCOPED_TRACE(round);
      const Ids tokens = RandomTokens(random, tokenizer);
      check(tokenizer, tokens, RandomOptions(random), random);
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(SegmenterProperty, SentencesCoverTheTokensWithinBounds) {
  ForManyTexts(1000, [](const MarkedTokenizer& tokenizer, const Ids& tokens,
                        SegmenterOptions options, std::mt19937&) {
    int32_t begin = 0;
    const Ids ends = EndsOf(tokenizer, tokens, options);
    for (int32_t end : ends) {
      ASSERT_LT(begin, end);
      ASSERT_LT(end, int32_t(tokens.size()) + 1);
      ASSERT_LE(end - begin, options.max_tokens);
      if (end - begin < options.min_tokens) {
        // Ends are decided one token later.
        ASSERT_LT(end, int32_t(tokens.size()));
        EXPECT_TRUE(MayBeShort(*tokenizer.tokenizer, tokens, end))
            << begin << ".." << end << " of "
            << testing::PrintToString(tokenizer.tokenizer->Decode(
                   std::span(tokens).first(end + 1), true));
      }
      begin = end;
    }
    ASSERT_LE(int64_t(tokens.size()) - begin, options.max_tokens);
  });
}

TEST(SegmenterProperty, ChunksDoNotMatter) {
  ForManyTexts(1000, [](const MarkedTokenizer& tokenizer, const Ids& tokens,
                        SegmenterOptions options, std::mt19937& random) {
    const Ids whole = EndsOf(tokenizer, tokens, options);
    Segmenter single(tokenizer.marks, options);
    for (const int32_t& token : tokens) single.Append({&token, 1});
    ASSERT_EQ(Ids(single.ends().begin(), single.ends().end()), whole);
    Segmenter chunked(tokenizer.marks, options);
    for (size_t done = 0; done < tokens.size();) {
      const size_t size = std::min<size_t>(random() % 40, tokens.size() - done);
      chunked.Append(std::span(tokens).subspan(done, size));
      done += size;
      if (random() % 4 == 0) {
        Segmenter copy = chunked;
        chunked = copy;
      }
    }
    ASSERT_EQ(Ids(chunked.ends().begin(), chunked.ends().end()), whole);
    ASSERT_EQ(chunked.num_tokens(), int64_t(tokens.size()));
  });
}

// The ends of a prefix are the first ends of the whole, and what is missing
// lies in the prefix's open sentence or behind it.
TEST(SegmenterProperty, PrefixesAgree) {
  ForManyTexts(1000, [](const MarkedTokenizer& tokenizer, const Ids& tokens,
                        SegmenterOptions options, std::mt19937& random) {
    const Ids whole = EndsOf(tokenizer, tokens, options);
    const size_t size = random() % (tokens.size() + 1);
    Ids other = RandomTokens(random, tokenizer);
    other.insert(other.begin(), tokens.begin(), tokens.begin() + size);
    const Ids prefix =
        EndsOf(tokenizer, std::span(tokens).first(size), options);
    const Ids continued = EndsOf(tokenizer, other, options);
    ASSERT_LE(prefix.size(), whole.size());
    ASSERT_TRUE(std::equal(prefix.begin(), prefix.end(), whole.begin()));
    ASSERT_LE(prefix.size(), continued.size());
    ASSERT_TRUE(std::equal(prefix.begin(), prefix.end(), continued.begin()));
  });
}

// Tokens that cut code points anywhere say the same as whole text: only ends
// inside a token may lie elsewhere.
TEST(SegmenterProperty, BytesSayWhatWordsSay) {
  const std::string text =
      "Dr. Ünal came. „Schön!“ Er blieb… 我来了。“好。”他走了？Да! यह है। Fine.";
  const auto by_bytes =
      Trimmed(SentencesOf(Bytes(), Encode(Bytes(), text), kNatural));
  EXPECT_EQ(by_bytes.size(), 9u);
  for (const MarkedTokenizer& tokenizer : AllTokenizers()) {
    const Ids tokens = Encode(tokenizer, text);
    if (Trimmed({tokenizer.tokenizer->Decode(tokens)}) != Trimmed({text})) {
      continue;
    }
    EXPECT_EQ(Trimmed(SentencesOf(tokenizer, tokens, kNatural)), by_bytes)
        << tokenizer.name;
  }
}

TEST(SegmenterProperty, HostileTextsKeepTheBounds) {
  for (const NamedText& hostile : HostileTexts(3000)) {
    SCOPED_TRACE(hostile.name);
    const Ids tokens = Encode(Bytes(), hostile.text);
    int32_t begin = 0;
    for (int32_t end : EndsOf(Bytes(), tokens)) {
      ASSERT_LT(begin, end);
      ASSERT_LE(end - begin, 32);
      begin = end;
    }
    ASSERT_LE(3000 - begin, 32);
  }
}

// The vocabulary that the published code's list of ids fails on.
TEST(SegmenterProperty, RealProseHasSentencesOfUsefulLength) {
  SKV_SKIP_WITHOUT(SmolLmPath(), "SmolLM2-135M-Instruct.Q4_1.gguf");
  const MarkedTokenizer& smollm = AllTokenizers().back();
  std::string text;
  for (int i = 0; i < 50; ++i) {
    text +=
        "The harbour was quiet that morning, and only two boats lay at the "
        "quay. Mr. Brown counted 20,000 crates by 9 a.m. on the list he "
        "had. \"Is that all?\" he asked. Nobody answered him.\n\n";
  }
  const Ids tokens = Encode(smollm, text);
  const auto sentences = SentencesOf(smollm, tokens);
  EXPECT_EQ(sentences.size(), 200u);
  EXPECT_EQ(Trimmed(sentences)[1],
            "Mr. Brown counted 20,000 crates by 9 a.m. on the list he had.");
  EXPECT_EQ(Trimmed(sentences)[2], "\"Is that all?\" he asked.");
}

}  // namespace
}  // namespace sentencekv
