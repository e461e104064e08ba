// The compute seam: everything the model does on a device goes through here.
//
// Contract, which is also the written specification for a new backend:
//  1. Operations take effect in issue order. The host may read a result only
//     after CopyToHost or Synchronize; a backend may run at once (the CPU
//     does). Memory that an operation reads must stay until Synchronize;
//     Buffers see to that themselves.
//  2. Device errors surface at CopyToHost or Synchronize, as absl::Status.
//     Synchronize waits for all streams. kDataLoss: the device is lost, and
//     whatever is asked of it from now on fails.
//  3. Arguments are checked once, in the public method: a bad size or a null
//     pointer is kInvalidArgument and nothing is done. An empty step (zero
//     rows) is OK and does nothing.
//  4. Results are bitwise independent of batching: a row gets the same value
//     alone and among others, in one chunk or several, on one thread or more.
//  5. One thread uses a backend at a time (the engine thread).
//
// Pointers said to be "host memory" in op_params.h are read before the method
// returns. All others are device pointers, from Allocate.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "kernels/device_stream.h"
#include "kernels/memory_budget.h"
#include "kernels/op_params.h"
#include "kernels/sentence_chooser.h"
#include "kernels/weight_matrix.h"

namespace sentencekv {

// How many rows the operations of a step work on, and how many their tensors
// have room for.
struct StepSize {
  int64_t num_rows = 0;
  int64_t most_rows = 0;
};

// Steps whose operations were done together, since the start.
struct StepCounts {
  int64_t recorded = 0;  // after they had been written down, or once more
  int64_t repeated = 0;  // from what had been written down before
};

class Backend {
 public:
  virtual ~Backend() = default;

  // For logs and the model-info metric, e.g. "cpu avx512 2 threads".
  virtual std::string description() const = 0;

  // Zero-filled device memory, aligned to 64 bytes; `use` is for the budget.
  // kResourceExhausted with the size when there is none.
  absl::StatusOr<Buffer> Allocate(size_t size_bytes,
                                  MemoryUse use = MemoryUse::kOther) {
    return DoAllocate(size_bytes, use);
  }
  // What device memory is held for, where the backend has set some aside.
  virtual MemoryBudget memory_budget() const { return {}; }
  virtual absl::Status CopyToDevice(void* destination, const void* source,
                                    size_t size_bytes) = 0;
  virtual absl::Status CopyToHost(void* destination, const void* source,
                                  size_t size_bytes) = 0;
  virtual absl::Status Synchronize() = 0;
  // Makes memory from Allocate that was never used cheap to use for the first
  // time, where that is not so anyway. Contents stay. Advice only; any thread.
  virtual void Prepare(void* /*data*/, size_t /*size_bytes*/) {}

  // Whether operations reach only what Allocate gave. Where it is so,
  // AllocateHost gives memory that Transfer reaches; elsewhere that is the same
  // memory, and there is nothing to transfer: the three calls below are
  // kFailedPrecondition. kernels/device_stream.h says what they mean.
  virtual bool has_own_memory() const { return false; }
  virtual absl::StatusOr<Buffer> AllocateHost(size_t size_bytes) {
    return Allocate(size_bytes);
  }
  // Submits copies to kToDevice or kToHost. `runs` is read before the method
  // returns; what they name must stay until an event says that they are done.
  virtual absl::Status Transfer(DeviceStream stream,
                                std::span<const CopyRun> runs);
  // The point in a stream that it has been given work up to.
  virtual absl::StatusOr<DeviceEvent> Record(DeviceStream stream);
  // What is submitted to `stream` from now on begins when `event` has passed.
  virtual absl::Status Wait(DeviceStream stream, const DeviceEvent& event);

  // What lets rows choose on the device; null where the host has to choose. It
  // must not outlive the backend.
  virtual absl::StatusOr<std::unique_ptr<SentenceChooser>> MakeSentenceChooser(
      const ChoosingRoom& /*room*/) {
    return nullptr;
  }

  // Issues a step: `issue` does, by the operations from Embed to RopeStoreKv
  // and a SentenceChooser, and by nothing else. A backend may call it more than
  // once, and have all of it done together when it knows all of it; rows from
  // num_rows on then hold anything. After an error some of it may be done.
  virtual absl::Status RunStep(const StepSize& /*size*/,
                               absl::FunctionRef<absl::Status()> issue) {
    return issue();
  }

  virtual StepCounts step_counts() const { return {}; }

  // Stacks the rows of `parts` (q|k|v, gate|up) into one packed matrix. All
  // parts have the same number of columns; when their packed formats differ
  // the most precise of them is used. kInvalidArgument for mismatched columns
  // or a column count that is not a whole number of blocks.
  absl::StatusOr<WeightMatrix> PackWeights(std::span<const MatrixSource> parts);

  absl::Status Embed(const EmbedParams& params);
  absl::Status RmsNorm(const RmsNormParams& params);
  absl::Status MatMul(const MatMulParams& params);
  absl::Status SwiGlu(const SwiGluParams& params);
  absl::Status GatherRows(const GatherRowsParams& params);
  absl::Status RopeTable(const RopeTableParams& params);
  absl::Status RopeStoreKv(const RopeStoreKvParams& params);
  absl::Status Attention(const AttentionParams& params);
  absl::Status SelectedAttention(const SelectedAttentionParams& params);
  absl::Status IndexSentences(const IndexSentencesParams& params);
  absl::Status ScoreSentences(const ScoreSentencesParams& params);
  // These two give their result in host memory, at once.
  absl::Status AttentionMass(const AttentionMassParams& params);
  absl::Status ReadKeys(const ReadKeysParams& params);
  absl::Status CopyPages(const CopyPagesParams& params);
  absl::Status CopyRows(const CopyRowsParams& params);

 private:
  virtual absl::StatusOr<Buffer> DoAllocate(size_t size_bytes,
                                            MemoryUse use) = 0;
  // The same operations with checked arguments and at least one row.
  virtual absl::StatusOr<WeightMatrix> DoPackWeights(
      std::span<const MatrixSource> parts, WeightFormat format) = 0;
  virtual absl::Status DoEmbed(const EmbedParams& params) = 0;
  virtual absl::Status DoRmsNorm(const RmsNormParams& params) = 0;
  virtual absl::Status DoMatMul(const MatMulParams& params) = 0;
  virtual absl::Status DoSwiGlu(const SwiGluParams& params) = 0;
  virtual absl::Status DoGatherRows(const GatherRowsParams& params) = 0;
  virtual absl::Status DoRopeTable(const RopeTableParams& params) = 0;
  virtual absl::Status DoRopeStoreKv(const RopeStoreKvParams& params) = 0;
  virtual absl::Status DoAttention(const AttentionParams& params) = 0;
  virtual absl::Status DoSelectedAttention(
      const SelectedAttentionParams& params) = 0;
  virtual absl::Status DoIndexSentences(const IndexSentencesParams& params) = 0;
  virtual absl::Status DoScoreSentences(const ScoreSentencesParams& params) = 0;
  virtual absl::Status DoAttentionMass(const AttentionMassParams& params) = 0;
  virtual absl::Status DoReadKeys(const ReadKeysParams& params) = 0;
  virtual absl::Status DoCopyPages(const CopyPagesParams& params) = 0;
  virtual absl::Status DoCopyRows(const CopyRowsParams& params) = 0;
};

}  // namespace sentencekv
