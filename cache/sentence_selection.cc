#include "cache/sentence_selection.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "kernels/check.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

// Few sentences are longer (cache/segmenter.h).
constexpr int64_t kLongSentence = 32;

// Bins of scores: those that share sign, exponent and 3 bits of the fraction.
constexpr int kBinBits = 12;
constexpr uint32_t kNumBins = 1u << kBinBits;

uint32_t BinOf(uint64_t rank) {
  return static_cast<uint32_t>(rank >> (64 - kBinBits));
}

// Orders sentences by score, ties by falling position: one number, so that
// comparing is cheap.
uint64_t RankOf(float score, uint32_t sentence) {
  const auto bits = std::bit_cast<uint32_t>(score);
  const bool negative = (bits >> 31) != 0;
  const uint32_t rising = negative ? ~bits : bits | (uint32_t{1} << 31);
  return (uint64_t{rising} << 32) | ~sentence;
}

int32_t SentenceOf(uint64_t rank) {
  return static_cast<int32_t>(~static_cast<uint32_t>(rank));
}

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
  sentences_.clear();
  const uint32_t lowest_bin = RankAll(limits, spans, scores);
  Taker taker = {.left = limits.budget};
  TakeBins(limits, spans, lowest_bin, kNumBins, &taker);
  // Rarely: what was thought enough did not fill the budget.
  if (taker.wants_more()) TakeBins(limits, spans, 0, lowest_bin, &taker);
  return sentences_;
}

uint32_t SentenceSelector::RankAll(const SelectionLimits& limits,
                                   const SentenceSpans& spans,
                                   std::span<const float> scores) {
  bin_tokens_.assign(kNumBins, 0);
  ranks_.resize(scores.size());
  int64_t begin = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    ranks_[i] = RankOf(scores[i], static_cast<uint32_t>(i));
    bin_tokens_[BinOf(ranks_[i])] += spans.ends[i] - begin;
    begin = spans.ends[i];
  }
  const int64_t wanted = limits.budget + kMostMisfits * kLongSentence;
  uint32_t bin = kNumBins;
  for (int64_t tokens = 0; bin > 0 && tokens < wanted;) {
    tokens += bin_tokens_[--bin];
  }
  return bin;
}

void SentenceSelector::TakeBins(const SelectionLimits& limits,
                                const SentenceSpans& spans, uint32_t first,
                                uint32_t end, Taker* taker) {
  sorted_.clear();
  for (const uint64_t rank : ranks_) {
    const uint32_t bin = BinOf(rank);
    if (bin >= first && bin < end) sorted_.push_back(rank);
  }
  std::sort(sorted_.begin(), sorted_.end(), std::greater<>());
  for (const uint64_t rank : sorted_) {
    if (!taker->wants_more()) return;
    const int32_t sentence = SentenceOf(rank);
    const int64_t cost = CostOf(limits, spans, sentence);
    if (cost == 0) continue;  // attended to anyway
    if (cost > taker->left) {
      ++taker->misfits;
      continue;
    }
    taker->misfits = 0;
    taker->left -= cost;
    sentences_.push_back(sentence);
  }
}

void SentenceSelector::Mark(int64_t begin, int64_t end) {
  for (int64_t page = begin / kPageTokens; page * kPageTokens < end; ++page) {
    page_masks_[static_cast<size_t>(page)] |=
        static_cast<uint16_t>(PageTokenBits(page, begin, end));
  }
}

void SentenceSelector::ListPages(const SelectionLimits& limits,
                                 const SentenceSpans& spans,
                                 std::span<const int32_t> sentences,
                                 ChosenPages* chosen) {
  const int64_t num_tokens = spans.num_tokens;
  const int64_t num_pages = (num_tokens + kPageTokens - 1) / kPageTokens;
  page_masks_.assign(static_cast<size_t>(num_pages), 0);
  const int64_t open_begin = spans.ends.empty() ? 0 : spans.ends.back();
  Mark(0, std::min(limits.num_sink, num_tokens));
  Mark(std::max<int64_t>(std::min(open_begin, num_tokens - limits.num_recent),
                         0),
       num_tokens);
  for (const int32_t sentence : sentences) {
    Mark(spans.begin(sentence), spans.end(sentence));
  }
  chosen->pages.clear();
  chosen->masks.clear();
  chosen->num_tokens = 0;
  for (int64_t page = 0; page < num_pages; ++page) {
    const uint16_t mask = page_masks_[static_cast<size_t>(page)];
    if (mask == 0) continue;
    chosen->pages.push_back(static_cast<int32_t>(page));
    chosen->masks.push_back(mask);
    chosen->num_tokens += std::popcount(mask);
  }
}

}  // namespace sentencekv
