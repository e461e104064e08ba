// Random requests with the steps at which they come and are cancelled, run on
// whole engines with little memory: for tests that two ways of serving give the
// same.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/engine_core.h"
#include "tests/engine/core_harness.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_clock.h"
#include "tests/support/model_runner.h"

namespace sentencekv {

// Tokens of the longest sequence.
inline constexpr int64_t kScheduleContext = 256;
inline constexpr int64_t kScheduleContextPages = kScheduleContext / kPageTokens;

struct Arrival {
  int step = 0;
  std::optional<int> cancelled;  // steps later
  GenerateRequest request;
};
struct Schedule {
  std::vector<Arrival> arrivals;
  LlmEngineOptions engine;
};

class ScheduleMaker {
 public:
  explicit ScheduleMaker(uint64_t seed) : random_(seed) {}

  // Of all policies.
  Schedule Make();

 private:
  int64_t Between(int64_t low, int64_t high);
  GenerateRequest Request(std::string id);
  // Texts that begin alike.
  std::vector<int32_t> Text(int64_t num_tokens);
  KvOptions Options();

  std::mt19937_64 random_;
};

// A tiny model and its memory. Every schedule has an engine of its own, and
// must leave nothing behind.
class ScheduleMachine {
 public:
  explicit ScheduleMachine(const ModelRunnerOptions& options);

  // The answers.
  std::vector<Collected> Run(const Schedule& schedule);

  KvTransfers transfers() { return runner_.memory().transfers(); }
  FaultBackend& faults() { return runner_.faults(); }
  int64_t num_preemptions() const { return num_preemptions_; }
  int64_t num_reused() const { return num_reused_; }
  // Of the policy `sentence`.
  const ReadCounts& reads() const { return reads_; }

 private:
  FakeClock clock_;
  ByteTokenizer tokenizer_;
  ModelRunner runner_;
  int64_t num_preemptions_ = 0;
  int64_t num_reused_ = 0;
  ReadCounts reads_;
};

// Memory that schedules come to the end of.
ModelRunnerOptions ScheduleMemory();

// How answers differ as far as both go; "" where they do not.
std::string DifferenceOfTokens(const Collected& expected, const Collected& got);
// How an answer differs from what it should be; "" where it does not.
std::string Difference(const Collected& expected, const Collected& got);
// The first of a schedule's answers that differs, named; "" where none does.
std::string DifferenceOfAnswers(const Schedule& schedule,
                                const std::vector<Collected>& expected,
                                const std::vector<Collected>& got);

}  // namespace sentencekv
