#include "cache/sentence_selection.h"

#include <algorithm>
#include <bit>

#include "kernels/check.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

// After so many that did not fit in a row the rest is not looked at: what is
// left of the budget is less than a short sentence.
constexpr int kMostMisfits = 16;

// Tokens of a sentence that are not attended to anyway.
int64_t CostOf(const SelectionLimits& limits, const SentenceSpans& spans,
               int64_t sentence) {
  const int64_t begin = std::max(spans.begin(sentence), limits.num_sink);
  const int64_t end =
      std::min(spans.end(sentence), spans.num_tokens - limits.num_recent);
  return std::max<int64_t>(end - begin, 0);
}

}  // namespace

std::span<const int32_t> SentenceSelector::ChooseSentences(
    const SelectionLimits& limits, const SentenceSpans& spans,
    std::span<const float> scores) {
  SKV_CHECK(scores.size() == spans.ends.size());
  heap_.clear();
  sentences_.clear();
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto sentence = static_cast<int32_t>(i);
    if (CostOf(limits, spans, sentence) > 0) heap_.push_back(sentence);
  }
  const auto is_lower = [&](int32_t a, int32_t b) {
    const float left = scores[static_cast<size_t>(a)];
    const float right = scores[static_cast<size_t>(b)];
    return left != right ? left < right : a > b;
  };
  // A heap, not a sort: few of many are taken.
  std::make_heap(heap_.begin(), heap_.end(), is_lower);
  int64_t left = limits.budget;
  for (int misfits = 0; !heap_.empty() && left > 0 && misfits < kMostMisfits;) {
    std::pop_heap(heap_.begin(), heap_.end(), is_lower);
    const int32_t sentence = heap_.back();
    heap_.pop_back();
    const int64_t cost = CostOf(limits, spans, sentence);
    if (cost > left) {
      ++misfits;
      continue;
    }
    misfits = 0;
    left -= cost;
    sentences_.push_back(sentence);
  }
  return sentences_;
}

void SentenceSelector::Mark(int64_t begin, int64_t end) {
  for (int64_t p = begin; p < end;) {
    const int64_t page = p / kPageTokens;
    const int64_t stop = std::min(end, (page + 1) * kPageTokens);
    const uint32_t below_stop = (1u << (stop - page * kPageTokens)) - 1;
    const uint32_t below_begin = (1u << (p % kPageTokens)) - 1;
    page_masks_[static_cast<size_t>(page)] |=
        static_cast<uint16_t>(below_stop & ~below_begin);
    p = stop;
  }
}

void SentenceSelector::AppendPages(const SelectionLimits& limits,
                                   const SentenceSpans& spans,
                                   std::span<const int32_t> sentences,
                                   std::span<const int32_t> page_table,
                                   ChosenPages* chosen) {
  const int64_t num_tokens = spans.num_tokens;
  const int64_t num_pages = (num_tokens + kPageTokens - 1) / kPageTokens;
  SKV_CHECK(num_pages <= static_cast<int64_t>(page_table.size()));
  page_masks_.assign(static_cast<size_t>(num_pages), 0);
  const int64_t open_begin = spans.ends.empty() ? 0 : spans.ends.back();
  Mark(0, std::min(limits.num_sink, num_tokens));
  Mark(std::max<int64_t>(std::min(open_begin, num_tokens - limits.num_recent),
                         0),
       num_tokens);
  for (const int32_t sentence : sentences) {
    Mark(spans.begin(sentence), spans.end(sentence));
  }
  for (int64_t page = 0; page < num_pages; ++page) {
    const uint16_t mask = page_masks_[static_cast<size_t>(page)];
    if (mask == 0) continue;
    chosen->pages.push_back(page_table[static_cast<size_t>(page)]);
    chosen->masks.push_back(mask);
    chosen->num_tokens += std::popcount(mask);
  }
}

}  // namespace sentencekv
