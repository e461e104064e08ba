#include "tests/support/token_choice.h"

#include <algorithm>
#include <utility>

#include "kernels/kv_layout.h"

namespace sentencekv {

TokenChoice Choose(const PagedStep& step, size_t sequence, int64_t row,
                   int64_t kv_head, std::vector<int64_t> positions) {
  TokenChoice choice = {sequence, row, kv_head, std::move(positions), {}, {}};
  int64_t last = -1;
  for (const int64_t position : choice.positions) {
    const int64_t page = position / kPageTokens;
    if (page != last) {
      choice.pages.push_back(step.sequences()[sequence].pages[page]);
      choice.masks.push_back(0);
      last = page;
    }
    choice.masks.back() |=
        static_cast<uint16_t>(1u << (position % kPageTokens));
  }
  return choice;
}

std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> positions;
  for (int64_t p = begin; p < end; ++p) positions.push_back(p);
  return positions;
}

std::vector<int64_t> Runs(int64_t end, int64_t gap, std::mt19937& random) {
  std::uniform_int_distribution<int64_t> run(1, 30);
  std::uniform_int_distribution<int64_t> pause(1, gap);
  std::vector<int64_t> positions;
  for (int64_t p = pause(random) - 1; p < end; p += pause(random)) {
    const int64_t stop = std::min(end, p + run(random));
    for (; p < stop; ++p) positions.push_back(p);
  }
  if (positions.empty()) positions.push_back(end - 1);
  return positions;
}

}  // namespace sentencekv
