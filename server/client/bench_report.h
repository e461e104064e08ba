// What a load's answers say: percentiles, rates, gaps.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "server/client/bench_load.h"

namespace sentencekv {

// Of a set of measurements; all 0 for an empty one.
struct Percentiles {
  size_t count = 0;
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// Nearest rank: the value that a share of the measurements does not exceed.
Percentiles PercentilesOf(std::vector<double> values);

// How streams fared while a long prompt came in beside them.
struct IntrusionReport {
  int64_t prompt_tokens = 0;
  double ttft_ms = 0;
  Percentiles gaps_before;       // ms; ended before the prompt was sent
  Percentiles gaps_during;       // ms; overlapped its prefill
  double longest_gap_at_ms = 0;  // began so long after the prompt was sent
  double ratio = 0;              // longest during / median before
};

struct BenchReport {
  int64_t completed = 0;
  int64_t failed = 0;
  std::map<std::string, int64_t> errors;  // by code
  double duration_seconds = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  Percentiles ttft_ms;
  Percentiles inter_token_ms;  // between messages that carry tokens
  Percentiles total_ms;
  std::optional<IntrusionReport> intrusion;
};

// An answer counts as completed when it ended well, or when it was cut off on
// purpose because the intruder's prefill was over.
BenchReport MakeBenchReport(const BenchResult& result);

nlohmann::json BenchReportToJson(const BenchReport& report);
// A table for people.
std::string BenchReportToText(const BenchReport& report);

}  // namespace sentencekv
