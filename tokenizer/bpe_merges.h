// Byte pair encoding: joining neighbouring symbols, the lowest rank first.
//
// The method is that of Sennrich, Haddow and Birch (2016), "Neural Machine
// Translation of Rare Words with Subword Units". A linked list of symbols and
// a heap of candidate pairs make it O(n log n) for a word of n symbols.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace sentencekv {

// Immutable after the Adds: then any thread may call Apply.
class BpeMerges {
 public:
  // Memory that Apply needs; reused from word to word by one caller.
  class Workspace;

  // The next rule by rank: `left` and `right`, side by side, become `result`.
  // False, changing nothing, when the pair has a rule already.
  bool Add(int32_t left, int32_t right, int32_t result);

  // Joins `symbols` (token ids) until no rule applies. Of pairs with the same
  // rank the leftmost goes first. REQUIRES: fewer than 2^32 - 1 symbols.
  void Apply(std::vector<int32_t>& symbols, Workspace& workspace) const;

 private:
  struct Rule {
    uint32_t rank;
    int32_t result;
  };
  const Rule* Find(int32_t left, int32_t right) const;

  absl::flat_hash_map<uint64_t, Rule> rules_;  // by left and right, packed
};

class BpeMerges::Workspace {
 private:
  friend class BpeMerges;
  struct Symbol {
    int32_t id;  // negative: joined into the symbol before it
    uint32_t previous;
    uint32_t next;
  };
  // A pair that had a rule when it was put here; out of date once either
  // symbol has changed.
  struct Candidate {
    uint32_t rank;
    uint32_t position;  // of the left symbol
    int32_t left;
    int32_t right;
  };
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;  // lowest rank, then leftmost, at the front
};

}  // namespace sentencekv
