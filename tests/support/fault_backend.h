// A backend that forwards to another one, counts the calls, and fails one of
// them on command: for tests of what happens when a device errs at any point.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "kernels/backend.h"

namespace sentencekv {

// Safe to arm and to read from a thread other than the one that uses it.
//
// Counted are all methods that return a status: allocations, copies,
// synchronisation, and the operations whose arguments are right and whose step
// is not empty. A failed call does not reach the backend behind.
class FaultBackend final : public Backend {
 public:
  explicit FaultBackend(std::unique_ptr<Backend> inner)
      : inner_(std::move(inner)) {}

  // Calls so far, failed ones too.
  int64_t num_calls() const;
  // Makes the n-th call from now on (1: the next) return `status`, once; where
  // a method is named, the n-th call of it. Replaces an earlier order; 0
  // cancels it. REQUIRES: status is an error.
  void FailCall(int64_t n, absl::Status status, std::string method = "");
  // Name of the method that failed, e.g. "MatMul"; empty while none has since
  // FailCall.
  std::string failed_method() const;
  // Shows the arguments of every SelectedAttention before it runs. Not
  // thread-safe: before the backend is used.
  void ObserveSelections(
      std::function<void(const SelectedAttentionParams&)> observer) {
    observer_ = std::move(observer);
  }

  std::string description() const override {
    return "fault injection on " + inner_->description();
  }
  MemoryBudget memory_budget() const override {
    return inner_->memory_budget();
  }
  absl::Status CopyToDevice(void* destination, const void* source,
                            size_t size_bytes) override;
  absl::Status CopyToHost(void* destination, const void* source,
                          size_t size_bytes) override;
  absl::Status Synchronize() override;
  void Prepare(void* data, size_t size_bytes) override;
  bool has_own_memory() const override { return inner_->has_own_memory(); }
  absl::StatusOr<Buffer> AllocateHost(size_t size_bytes) override;
  absl::Status Transfer(DeviceStream stream,
                        std::span<const CopyRun> runs) override;
  absl::StatusOr<DeviceEvent> Record(DeviceStream stream) override;
  absl::Status Wait(DeviceStream stream, const DeviceEvent& event) override;
  absl::StatusOr<std::unique_ptr<SentenceChooser>> MakeSentenceChooser(
      const ChoosingRoom& room) override;
  StepCounts step_counts() const override { return inner_->step_counts(); }
  absl::Status RunStep(const StepSize& size,
                       absl::FunctionRef<absl::Status()> issue) override;
  // From now on nothing of `stream` waits for events of `for_stream`.
  void ForgetWaits(DeviceStream stream, DeviceStream for_stream) {
    forgotten_ = {stream, for_stream};
  }

 private:
  // Counts a call; the ordered error when it is the one to fail.
  absl::Status Count(const char* method);

  absl::StatusOr<Buffer> DoAllocate(size_t size_bytes, MemoryUse use) override;
  absl::StatusOr<WeightMatrix> DoPackWeights(
      std::span<const MatrixSource> parts, WeightFormat format) override;
  absl::Status DoEmbed(const EmbedParams& params) override;
  absl::Status DoRmsNorm(const RmsNormParams& params) override;
  absl::Status DoMatMul(const MatMulParams& params) override;
  absl::Status DoSwiGlu(const SwiGluParams& params) override;
  absl::Status DoGatherRows(const GatherRowsParams& params) override;
  absl::Status DoRopeTable(const RopeTableParams& params) override;
  absl::Status DoRopeStoreKv(const RopeStoreKvParams& params) override;
  absl::Status DoAttention(const AttentionParams& params) override;
  absl::Status DoSelectedAttention(
      const SelectedAttentionParams& params) override;
  absl::Status DoIndexSentences(const IndexSentencesParams& params) override;
  absl::Status DoScoreSentences(const ScoreSentencesParams& params) override;
  absl::Status DoAttentionMass(const AttentionMassParams& params) override;
  absl::Status DoReadKeys(const ReadKeysParams& params) override;
  absl::Status DoCopyPages(const CopyPagesParams& params) override;
  absl::Status DoCopyRows(const CopyRowsParams& params) override;

  const std::unique_ptr<Backend> inner_;
  mutable std::mutex mutex_;
  int64_t num_calls_ = 0;
  int64_t calls_left_ = 0;      // up to the one that fails; 0: none does
  std::string failing_method_;  // "": any
  absl::Status status_;
  std::string failed_method_;
  std::function<void(const SelectedAttentionParams&)> observer_;
  std::optional<std::pair<DeviceStream, DeviceStream>> forgotten_;
};

}  // namespace sentencekv
