#include "cache/paper_selection.h"

#include <algorithm>
#include <numeric>

#include "kernels/check.h"

namespace sentencekv {
namespace {

// Neighbours to either side that lend a token their mass.
constexpr int64_t kPoolReach = 3;
constexpr int64_t kLeastListed = 100;

std::vector<float> MaxOfNeighbours(std::span<const float> mass) {
  const auto size = static_cast<int64_t>(mass.size());
  std::vector<float> pooled(mass.size());
  for (int64_t i = 0; i < size; ++i) {
    const auto begin = mass.begin() + std::max<int64_t>(i - kPoolReach, 0);
    const auto end = mass.begin() + std::min(i + kPoolReach + 1, size);
    pooled[static_cast<size_t>(i)] = *std::max_element(begin, end);
  }
  return pooled;
}

}  // namespace

std::vector<int32_t> KeepHeaviest(std::span<const float> mass,
                                  int64_t num_kept) {
  const int64_t num_chosen = num_kept - kPaperWindow;
  SKV_CHECK(num_chosen >= 0 && num_chosen <= std::ssize(mass));
  const std::vector<float> scores = MaxOfNeighbours(mass);
  std::vector<int32_t> kept(mass.size());
  std::iota(kept.begin(), kept.end(), 0);
  const auto end = kept.begin() + num_chosen;
  std::partial_sort(kept.begin(), end, kept.end(), [&](int32_t a, int32_t b) {
    const float score_a = scores[static_cast<size_t>(a)];
    const float score_b = scores[static_cast<size_t>(b)];
    return score_a != score_b ? score_a > score_b : a < b;
  });
  std::sort(kept.begin(), end);
  kept.resize(static_cast<size_t>(num_kept));
  std::iota(kept.end() - kPaperWindow, kept.end(),
            static_cast<int32_t>(mass.size()));
  return kept;
}

std::vector<int32_t> SentenceBounds(std::span<const int32_t> ends,
                                    int64_t num_prompt) {
  std::vector<int32_t> bounds = {0};
  for (const int32_t end : ends) {
    if (end < num_prompt) bounds.push_back(end + 1);
  }
  const auto length = static_cast<int32_t>(num_prompt);
  if (bounds.back() != length) bounds.push_back(length);
  return bounds;
}

int64_t LongestListed(int64_t num_kept, int64_t num_sentences) {
  if (num_sentences == 0) return kLeastListed;
  return std::max(kLeastListed, 2 * (num_kept / num_sentences) + 50);
}

void PaperIndex::AddSentence(int64_t first_entry, int64_t num_listed,
                             int64_t head_dim, std::span<const float> keys) {
  const int64_t count = std::ssize(keys) / head_dim;
  SKV_CHECK(count > 0 && num_listed <= count);
  sentences_.push_back({first_entry, num_listed});
  for (int64_t d = 0; d < head_dim; ++d) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      sum += keys[static_cast<size_t>(i * head_dim + d)];
    }
    means_.push_back(static_cast<float>(sum / static_cast<double>(count)));
  }
}

std::vector<int32_t> PaperIndex::All(int64_t num_entries) const {
  std::vector<int32_t> positions;
  positions.reserve(static_cast<size_t>(num_entries));
  for (int64_t i = 0; i < num_entries; ++i) positions.push_back(Position(i));
  return positions;
}

std::vector<int32_t> PaperIndex::Select(std::span<const float> query,
                                        int64_t num_entries,
                                        int64_t token_budget) const {
  const int64_t recent = num_entries - kPaperWindow;
  std::vector<bool> is_read(static_cast<size_t>(num_entries));
  for (int64_t i = 0; i < num_entries; ++i) {
    is_read[static_cast<size_t>(i)] = i < kPaperWindow || i >= recent;
  }
  int64_t left = token_budget - 2 * kPaperWindow;
  for (const size_t index : Rank(query)) {
    if (left <= 0) break;
    const Sentence& sentence = sentences_[index];
    for (int64_t i = 0; i < sentence.num_listed && left > 0; ++i) {
      const int64_t entry = sentence.first_entry + i;
      // The published method leaves entry 32 itself out.
      if (entry <= kPaperWindow || entry >= recent) continue;
      is_read[static_cast<size_t>(entry)] = true;
      --left;
    }
  }
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < num_entries; ++i) {
    if (is_read[static_cast<size_t>(i)]) positions.push_back(Position(i));
  }
  return positions;
}

// Sentences by the product of their mean with the query, the highest first.
std::vector<size_t> PaperIndex::Rank(std::span<const float> query) const {
  std::vector<float> scores(sentences_.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    const float* mean = means_.data() + i * query.size();
    scores[i] = std::inner_product(query.begin(), query.end(), mean, 0.0f);
  }
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  return order;
}

int32_t PaperIndex::Position(int64_t entry) const {
  const int64_t num_kept = std::ssize(kept_);
  if (entry < num_kept) return kept_[static_cast<size_t>(entry)];
  return static_cast<int32_t>(num_prompt_ + entry - num_kept);
}

}  // namespace sentencekv
