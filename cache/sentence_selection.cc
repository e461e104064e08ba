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

// Bins of scores: those that share sign, exponent and 2 bits of the fraction.
constexpr int kBinBits = 11;
constexpr uint32_t kNumBins = 1u << kBinBits;

// Rises with the score.
uint32_t RisingBits(float score) {
  const auto bits = std::bit_cast<uint32_t>(score);
  const bool negative = (bits >> 31) != 0;
  return negative ? ~bits : bits | (uint32_t{1} << 31);
}

uint32_t BinOf(float score) { return RisingBits(score) >> (32 - kBinBits); }

// Orders sentences by score, ties by falling position: one number, so that
// comparing is cheap.
uint64_t RankOf(float score, uint32_t sentence) {
  return (uint64_t{RisingBits(score)} << 32) | ~sentence;
}

int32_t SentenceOf(uint64_t rank) {
  return static_cast<int32_t>(~static_cast<uint32_t>(rank));
}

}  // namespace

std::span<const int32_t> SentenceSelector::ChooseSentences(
    const SelectionLimits& limits, const SentenceSpans& spans,
    std::span<const float> scores) {
  SKV_CHECK(scores.size() == spans.ends.size());
  sentences_.clear();
  const Bins bins = CountBins(limits, spans, scores);
  const auto likely = SentencesIn(scores, bins.likely, kNumBins);
  const auto is_compared = [&](int32_t sentence) {
    return BinOf(scores[static_cast<size_t>(sentence)]) < bins.whole;
  };
  const auto compared =
      std::partition(listed_.begin(), listed_.end(), std::not_fn(is_compared));
  sentences_.assign(listed_.begin(), compared);
  Taker taker = {.left = bins.left};
  const auto num_whole = static_cast<size_t>(compared - listed_.begin());
  if (TakeBest(scores, likely.subspan(num_whole), &taker)) {
    // Rarely: what was thought enough did not fill the budget.
    TakeBest(scores, SentencesIn(scores, 0, bins.likely), &taker);
  }
  return sentences_;
}

SentenceSelector::Bins SentenceSelector::CountBins(
    const SelectionLimits& limits, const SentenceSpans& spans,
    std::span<const float> scores) {
  bin_tokens_.assign(kNumBins, 0);
  costs_.resize(scores.size());
  // What lies before and after is attended to anyway.
  const int64_t first = limits.num_sink;
  const int64_t end = spans.num_tokens - limits.num_recent;
  int64_t sentence_begin = 0;
  uint32_t highest = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const int64_t sentence_end = spans.ends[i];
    costs_[i] = static_cast<int32_t>(std::max<int64_t>(
        std::min(sentence_end, end) - std::max(sentence_begin, first), 0));
    const uint32_t bin = BinOf(scores[i]);
    bin_tokens_[bin] += costs_[i];
    highest = std::max(highest, bin);
    sentence_begin = sentence_end;
  }
  Bins bins = {.whole = highest + 1, .left = limits.budget};
  while (bins.whole > 0 && bin_tokens_[bins.whole - 1] <= bins.left) {
    bins.left -= bin_tokens_[--bins.whole];
  }
  const int64_t wanted = bins.left + kMostMisfits * kLongSentence;
  bins.likely = bins.whole;
  for (int64_t tokens = 0; bins.likely > 0 && tokens < wanted;) {
    tokens += bin_tokens_[--bins.likely];
  }
  return bins;
}

std::span<const int32_t> SentenceSelector::SentencesIn(
    std::span<const float> scores, uint32_t first, uint32_t end) {
  listed_.resize(scores.size());
  size_t count = 0;
  // Which ones cannot be foreseen, so nothing depends on a branch.
  for (size_t i = 0; i < scores.size(); ++i) {
    const uint32_t bin = BinOf(scores[i]);
    listed_[count] = static_cast<int32_t>(i);
    count += static_cast<size_t>(bin >= first) &
             static_cast<size_t>(bin < end) &
             static_cast<size_t>(costs_[i] > 0);
  }
  listed_.resize(count);
  return listed_;
}

bool SentenceSelector::TakeBest(std::span<const float> scores,
                                std::span<const int32_t> sentences,
                                Taker* taker) {
  ranks_.clear();
  for (const int32_t sentence : sentences) {
    ranks_.push_back(RankOf(scores[static_cast<size_t>(sentence)],
                            static_cast<uint32_t>(sentence)));
  }
  std::sort(ranks_.begin(), ranks_.end(), std::greater<>());
  for (const uint64_t rank : ranks_) {
    if (taker->left == 0 || taker->num_misfits == kMostMisfits) return false;
    const int32_t sentence = SentenceOf(rank);
    const int32_t cost = costs_[static_cast<size_t>(sentence)];
    if (cost > taker->left) {
      ++taker->num_misfits;
      continue;
    }
    taker->num_misfits = 0;
    taker->left -= cost;
    sentences_.push_back(sentence);
  }
  return taker->left > 0 && taker->num_misfits < kMostMisfits;
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
  // Of what is always attended to: positions before and from there on.
  const int64_t tail = std::max<int64_t>(
      std::min(open_begin, num_tokens - limits.num_recent), 0);
  const int64_t sink = std::min(limits.num_sink, tail);
  Mark(0, sink);
  Mark(tail, num_tokens);
  chosen->num_tokens = sink + num_tokens - tail;
  for (const int32_t sentence : sentences) {
    const int64_t begin = std::max(spans.begin(sentence), sink);
    const int64_t end = std::min(spans.end(sentence), tail);
    if (begin >= end) continue;
    Mark(begin, end);
    chosen->num_tokens += end - begin;
  }
  chosen->pages.resize(page_masks_.size());
  chosen->masks.resize(page_masks_.size());
  size_t count = 0;
  for (size_t page = 0; page < page_masks_.size(); ++page) {
    chosen->pages[count] = static_cast<int32_t>(page);
    chosen->masks[count] = page_masks_[page];
    count += static_cast<size_t>(page_masks_[page] != 0);
  }
  chosen->pages.resize(count);
  chosen->masks.resize(count);
}

}  // namespace sentencekv
