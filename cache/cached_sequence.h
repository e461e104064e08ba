// A sequence as the cache sees it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cache/read_log.h"

namespace sentencekv {

// The index that a policy keeps of one sequence.
struct SentenceIndexSize {
  int64_t sentences = 0;
  int64_t entries = 0;  // in all layers and KV heads
  int64_t bytes = 0;    // allocated

  SentenceIndexSize& operator+=(const SentenceIndexSize& other) {
    sentences += other.sentences;
    entries += other.entries;
    bytes += other.bytes;
    return *this;
  }
};

// What a policy keeps for one sequence.
class PolicyState {
 public:
  virtual ~PolicyState() = default;

  // Null: decode steps attend to the whole context.
  virtual const ReadCounts* read_counts() const { return nullptr; }
  virtual SentenceIndexSize index_size() const { return {}; }
  // ReadLog::TakeSentences, of a sequence with KvOptions::trace_sources:
  // `num_tokens` are there, with the one that the last step gave.
  virtual std::vector<ReadSentence> TakeReads(int64_t /*num_prompt*/,
                                              int64_t /*num_tokens*/,
                                              bool /*close*/) {
    return {};
  }
};

// What a KvMemory keeps for one sequence.
class Residency {
 public:
  virtual ~Residency() = default;

  // Copied to the device for it so far.
  virtual int64_t bytes_streamed() const = 0;
};

// Its page table, its policy's state, and what of it is on the device.
struct CachedSequence {
  // Position p lies in pages[p / kPageTokens]. Between steps an id may become
  // that of another page with the same K and V: equal prefixes lie in the pool
  // once.
  std::vector<int32_t> pages;
  // Positions whose K and V are written, after the last step.
  int64_t num_tokens = 0;
  // Tokens of the prompt; those at later positions are generated.
  int64_t num_prompt = 0;
  // Null when the policy keeps none.
  std::unique_ptr<PolicyState> policy_state;
  // Null where K and V are read in place, and before the first step.
  std::unique_ptr<Residency> residency;
};

}  // namespace sentencekv
