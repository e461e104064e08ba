// What the engine tells the outside about itself, for metrics. The engine
// knows no metrics library; server/engine_metrics.h implements this.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "cache/kv_cache.h"
#include "cache/kv_memory.h"
#include "engine/request.h"

namespace sentencekv {

// Counts at the end of a step; also the answer to GetStats.
struct EngineStats {
  int64_t running = 0;  // requests with pages: prefilling or decoding
  int64_t waiting = 0;
  int64_t waiting_tokens = 0;  // prompt tokens of waiting requests
  int64_t pages_total = 0;
  int64_t pages_free = 0;
  int64_t pages_cached = 0;  // of the free ones: their K and V may be reused
  int64_t pages_used = 0;
  int64_t page_tokens = 0;        // P
  int64_t kv_bytes_per_page = 0;  // all layers
  // Since start.
  int64_t requests_finished = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t preemptions = 0;
  int64_t steps = 0;
  int64_t prefix_query_tokens = 0;  // prompt tokens looked up
  int64_t prefix_hit_tokens = 0;    // of them, found and reused
  int64_t prefix_evictions = 0;     // cached pages given up for want of memory
  bool draining = false;
  // Of the sequences that run.
  SentenceIndexSize sentence_index;
  std::vector<PolicyReads> reads;  // since start
  KvTransfers device;              // and of K and V on the device
  StepCounts graph_steps;          // steps that were graphs there
};

// One step, by phase.
struct StepStats {
  int64_t prefill_tokens = 0;
  int64_t decode_tokens = 0;
  int64_t sequences = 0;
  absl::Duration plan_time;     // scheduling
  absl::Duration forward_time;  // model
  absl::Duration sample_time;   // sampling, detokenising, publishing
};

// Why Submit refused.
enum class RefusalReason : uint8_t {
  kQueueFull,
  kTooLong,  // the prompt can never fit
  kInvalid,  // an option is out of range
  kDraining,
  kDeadline,
  kDuplicateId
};
// "queue_full", ..., for labels of metrics.
std::string_view Name(RefusalReason reason);

// Called from the engine thread, OnRefused from any; must be quick.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnRefused(RefusalReason) {}
  virtual void OnFirstToken(absl::Duration /*since_submitted*/) {}
  virtual void OnInterToken(absl::Duration /*since_previous*/) {}
  virtual void OnFinished(const Finish&) {}
  virtual void OnStep(const StepStats&, const EngineStats&) {}
};

}  // namespace sentencekv
