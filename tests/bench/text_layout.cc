#include "tests/bench/text_layout.h"

#include <algorithm>

#include "tests/support/cuda_sim/random.h"

namespace sentencekv {
namespace {

constexpr int64_t kShortest = 16;
constexpr int64_t kLongest = 32;
static_assert(kShortest + kLongest == 2 * kMeanSentence);

}  // namespace

bool TextLayout::IsWhole(int64_t page) const {
  const int64_t tail =
      std::min<int64_t>(ends.back(), num_tokens - kRecentTokens);
  return page * kPageTokens < kSinkTokens || (page + 1) * kPageTokens > tail;
}

int64_t TextLayout::NumWholePages() const {
  int64_t count = 0;
  for (int64_t page = 0; page < num_pages(); ++page) {
    if (IsWhole(page)) ++count;
  }
  return count;
}

TextLayout DrawText(int64_t num_tokens, uint64_t seed) {
  cuda_sim::Random random(seed);
  TextLayout text = {.num_tokens = num_tokens};
  int64_t end = 0;
  while (true) {
    end += kShortest +
           static_cast<int64_t>(random.Below(kLongest - kShortest + 1));
    if (end >= num_tokens) return text;
    text.ends.push_back(static_cast<int32_t>(end));
  }
}

}  // namespace sentencekv
