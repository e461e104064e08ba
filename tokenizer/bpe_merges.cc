#include "tokenizer/bpe_merges.h"

#include <algorithm>
#include <limits>

#include "kernels/check.h"

namespace sentencekv {
namespace {

constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();
constexpr int32_t kJoined = -1;

uint64_t Pair(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 |
         static_cast<uint32_t>(right);
}

// Orders a heap so that the pair to join next is at its front.
constexpr auto kLater = [](const auto& a, const auto& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
};

}  // namespace

bool BpeMerges::Add(int32_t left, int32_t right, int32_t result) {
  Rule rule{static_cast<uint32_t>(rules_.size()), result};
  return rules_.try_emplace(Pair(left, right), rule).second;
}

const BpeMerges::Rule* BpeMerges::Find(int32_t left, int32_t right) const {
  auto found = rules_.find(Pair(left, right));
  return found == rules_.end() ? nullptr : &found->second;
}

void BpeMerges::Apply(std::vector<int32_t>& ids, Workspace& workspace) const {
  if (ids.size() < 2) return;
  SKV_CHECK(ids.size() < kEnd);
  auto& symbols = workspace.symbols_;
  auto& heap = workspace.heap_;
  symbols.clear();
  heap.clear();

  const uint32_t count = static_cast<uint32_t>(ids.size());
  for (uint32_t i = 0; i < count; ++i) {
    symbols.push_back(
        {ids[i], i == 0 ? kEnd : i - 1, i + 1 == count ? kEnd : i + 1});
    if (i == 0) continue;
    if (const Rule* rule = Find(ids[i - 1], ids[i])) {
      heap.push_back({rule->rank, i - 1, ids[i - 1], ids[i]});
    }
  }
  std::make_heap(heap.begin(), heap.end(), kLater);

  auto offer = [&](uint32_t position) {
    if (position == kEnd || symbols[position].next == kEnd) return;
    int32_t left = symbols[position].id;
    int32_t right = symbols[symbols[position].next].id;
    if (const Rule* rule = Find(left, right)) {
      heap.push_back({rule->rank, position, left, right});
      std::push_heap(heap.begin(), heap.end(), kLater);
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), kLater);
    auto [rank, position, left, right] = heap.back();
    heap.pop_back();
    auto& symbol = symbols[position];
    if (symbol.id != left || symbol.next == kEnd) continue;
    auto& joined = symbols[symbol.next];
    if (joined.id != right) continue;
    symbol.id = Find(left, right)->result;
    symbol.next = joined.next;
    joined.id = kJoined;
    if (symbol.next != kEnd) symbols[symbol.next].previous = position;
    offer(symbol.previous);
    offer(position);
  }

  ids.clear();
  for (uint32_t i = 0; i != kEnd; i = symbols[i].next) {
    ids.push_back(symbols[i].id);
  }
}

}  // namespace sentencekv
