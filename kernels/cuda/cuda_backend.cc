#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <span>
#include <utility>

#include "fmt/format.h"
#include "kernels/argument_check.h"
#include "kernels/cuda/bf16_matrix.h"
#include "kernels/cuda/cuda_attention.h"
#include "kernels/cuda/cuda_chooser.h"
#include "kernels/cuda/cuda_parts.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/kv_runner.h"
#include "kernels/cuda/rope_kernels.h"
#include "kernels/cuda/row_kernels.h"
#include "kernels/cuda/sentence_runner.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(CudaParts parts)
      : device_(std::move(parts.device)),
        streams_(std::move(parts.streams)),
        arena_(std::move(parts.arena)),
        pinned_(std::move(parts.pinned)),
        ring_(std::move(parts.ring)),
        graphs_(std::move(parts.graphs)),
        products_(std::move(parts.products)),
        attention_(*streams_, *ring_, *arena_, device_.num_processors,
                   std::move(parts.attention_states)),
        sentences_(*streams_, *ring_, *arena_),
        kv_(*streams_, *ring_, *graphs_, *arena_) {}
  // Memory goes first: nothing may still use it.
  ~CudaBackend() override { (void)streams_->AwaitAll(); }

  std::string description() const override {
    return fmt::format("cuda {} (compute capability {}.{}, {} MiB)",
                       device_.name, device_.major, device_.minor,
                       device_.memory_bytes >> 20);
  }

  MemoryBudget memory_budget() const override;
  absl::StatusOr<Buffer> AllocateHost(size_t size_bytes) override;
  absl::Status CopyToDevice(void* destination, const void* source,
                            size_t size_bytes) override;
  absl::Status CopyToHost(void* destination, const void* source,
                          size_t size_bytes) override;
  absl::Status Synchronize() override { return streams_->AwaitAll(); }

  bool has_own_memory() const override { return true; }
  absl::Status Transfer(DeviceStream stream,
                        std::span<const CopyRun> runs) override {
    return streams_->Transfer(stream, runs, *pinned_);
  }
  absl::StatusOr<DeviceEvent> Record(DeviceStream stream) override {
    return streams_->Record(stream);
  }
  absl::Status Wait(DeviceStream stream, const DeviceEvent& event) override {
    return streams_->Wait(stream, event);
  }
  absl::Status RunStep(const StepSize& size,
                       absl::FunctionRef<absl::Status()> issue) override {
    return graphs_->Run(size, issue);
  }
  StepCounts step_counts() const override { return graphs_->counts(); }
  absl::StatusOr<std::unique_ptr<SentenceChooser>> MakeSentenceChooser(
      const ChoosingRoom& room) override {
    return CudaChooser::Create(
        {*streams_, *graphs_, *ring_, *arena_, *pinned_, attention_}, room);
  }

 private:
  // Deleters of buffers. What was submitted may still use the memory.
  static void ReleaseDevice(void* context, void* data, size_t) {
    static_cast<CudaBackend*>(context)->arena_->Release(
        static_cast<std::byte*>(data), DeviceArena::Users::kAllStreams);
  }
  static void ReleaseHost(void* context, void* data, size_t size_bytes) {
    auto* backend = static_cast<CudaBackend*>(context);
    // An error is for Synchronize to tell.
    (void)backend->streams_->AwaitAll();
    backend->pinned_->Free(static_cast<std::byte*>(data), size_bytes);
  }

  absl::StatusOr<Buffer> DoAllocate(size_t size_bytes, MemoryUse use) override;
  absl::StatusOr<WeightMatrix> DoPackWeights(
      std::span<const MatrixSource> parts, WeightFormat format) override;
  absl::Status DoEmbed(const EmbedParams& params) override;
  absl::Status DoRmsNorm(const RmsNormParams& params) override;
  absl::Status DoMatMul(const MatMulParams& params) override {
    return products_->Run(params);
  }
  absl::Status DoSwiGlu(const SwiGluParams& params) override;
  absl::Status DoGatherRows(const GatherRowsParams& params) override;
  absl::Status DoRopeTable(const RopeTableParams& params) override;
  absl::Status DoRopeStoreKv(const RopeStoreKvParams& params) override {
    return kv_.Store(params);
  }
  absl::Status DoAttention(const AttentionParams& params) override {
    SKV_RETURN_IF_ERROR(OutsideOfSteps("Attention"));
    return attention_.Run(params);
  }
  absl::Status DoSelectedAttention(
      const SelectedAttentionParams& params) override {
    SKV_RETURN_IF_ERROR(OutsideOfSteps("SelectedAttention"));
    return attention_.RunSelected(params);
  }
  absl::Status DoIndexSentences(const IndexSentencesParams& params) override {
    SKV_RETURN_IF_ERROR(OutsideOfSteps("IndexSentences"));
    return sentences_.Index(params);
  }
  absl::Status DoScoreSentences(const ScoreSentencesParams& params) override {
    SKV_RETURN_IF_ERROR(OutsideOfSteps("ScoreSentences"));
    return sentences_.Score(params);
  }
  absl::Status DoAttentionMass(const AttentionMassParams& params) override {
    SKV_RETURN_IF_ERROR(OutsideOfSteps("AttentionMass"));
    return attention_.RunMass(params);
  }
  absl::Status DoReadKeys(const ReadKeysParams& params) override {
    SKV_RETURN_IF_ERROR(OutsideOfSteps("ReadKeys"));
    return kv_.ReadKeys(params);
  }
  absl::Status DoCopyPages(const CopyPagesParams& params) override {
    SKV_RETURN_IF_ERROR(OutsideOfSteps("CopyPages"));
    return kv_.CopyPages(params);
  }
  absl::Status DoCopyRows(const CopyRowsParams& params) override {
    SKV_RETURN_IF_ERROR(OutsideOfSteps("CopyRows"));
    return kv_.CopyRows(params);
  }

  cudaStream_t compute() const { return streams_->compute(); }
  // For what is no part of a step.
  absl::Status OutsideOfSteps(const char* operation) const {
    if (!graphs_->is_recording()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        fmt::format("{}: inside of RunStep", operation));
  }
  // Sends a host array, with a number for each row of an operation, ahead of
  // the kernel that reads it. Rows that do nothing have 0.
  absl::StatusOr<const int32_t*> SendNumbers(const int32_t* values,
                                             int64_t num_rows);

  const CudaDevice device_;
  const std::unique_ptr<CudaStreams> streams_;
  const std::unique_ptr<DeviceArena> arena_;
  const std::unique_ptr<PinnedPool> pinned_;
  const std::unique_ptr<StagingRing> ring_;
  const std::unique_ptr<StepGraphs> graphs_;
  const std::unique_ptr<MatrixProducts> products_;
  CudaAttention attention_;
  SentenceRunner sentences_;
  KvRunner kv_;
};

absl::StatusOr<const int32_t*> CudaBackend::SendNumbers(const int32_t* values,
                                                        int64_t num_rows) {
  const int64_t count = graphs_->Rows(num_rows);
  SKV_ASSIGN_OR_RETURN(StagedArrays arrays,
                       graphs_->Reserve(StagedArrays::Bytes<int32_t>(count)));
  const auto numbers = arrays.Add<int32_t>(count);
  std::fill_n(std::copy_n(values, num_rows, numbers.host), count - num_rows, 0);
  SKV_RETURN_IF_ERROR(graphs_->Send(arrays));
  return numbers.device;
}

absl::Status CheckCopy(const char* operation, const void* destination,
                       const void* source) {
  return ArgumentCheck(operation)
      .NotNull("destination", destination)
      .NotNull("source", source)
      .status();
}

absl::StatusOr<Buffer> CudaBackend::DoAllocate(size_t size_bytes,
                                               MemoryUse use) {
  SKV_ASSIGN_OR_RETURN(std::byte* const data,
                       arena_->Allocate(size_bytes, use));
  Buffer buffer(data, size_bytes, &ReleaseDevice, this);
  if (size_bytes > 0) {
    SKV_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(data, 0, size_bytes, compute()));
  }
  // Copies begin when the zeros are there.
  SKV_ASSIGN_OR_RETURN(const DeviceEvent filled,
                       streams_->Record(DeviceStream::kCompute));
  SKV_RETURN_IF_ERROR(streams_->Wait(DeviceStream::kToDevice, filled));
  SKV_RETURN_IF_ERROR(streams_->Wait(DeviceStream::kToHost, filled));
  return buffer;
}

absl::StatusOr<Buffer> CudaBackend::AllocateHost(size_t size_bytes) {
  SKV_ASSIGN_OR_RETURN(std::byte* const data, pinned_->Allocate(size_bytes));
  return Buffer(data, size_bytes, &ReleaseHost, this);
}

MemoryBudget CudaBackend::memory_budget() const {
  MemoryBudget budget = arena_->budget();
  budget.pinned_host_bytes = pinned_->held_bytes();
  return budget;
}

absl::Status CudaBackend::CopyToDevice(void* destination, const void* source,
                                       size_t size_bytes) {
  SKV_RETURN_IF_ERROR(OutsideOfSteps("CopyToDevice"));
  if (size_bytes == 0) return absl::OkStatus();
  SKV_RETURN_IF_ERROR(CheckCopy("CopyToDevice", destination, source));
  return ring_->CopyFromHost(static_cast<std::byte*>(destination),
                             static_cast<const std::byte*>(source), size_bytes);
}

absl::Status CudaBackend::CopyToHost(void* destination, const void* source,
                                     size_t size_bytes) {
  SKV_RETURN_IF_ERROR(OutsideOfSteps("CopyToHost"));
  if (size_bytes == 0) return absl::OkStatus();
  SKV_RETURN_IF_ERROR(CheckCopy("CopyToHost", destination, source));
  return ring_->CopyToHost(static_cast<std::byte*>(destination),
                           static_cast<const std::byte*>(source), size_bytes);
}

absl::StatusOr<WeightMatrix> CudaBackend::DoPackWeights(
    std::span<const MatrixSource> parts, WeightFormat /*format*/) {
  WeightMatrix matrix;
  matrix.format = WeightFormat::kBF16;
  matrix.cols = parts[0].cols;
  for (const MatrixSource& part : parts) matrix.rows += part.rows;
  SKV_ASSIGN_OR_RETURN(
      matrix.data,
      Allocate(Bf16MatrixBytes(matrix.rows, matrix.cols), MemoryUse::kWeights));
  SKV_RETURN_IF_ERROR(
      UploadBf16Matrix(*ring_, parts, matrix.data.as<std::byte>()));
  return matrix;
}

absl::Status CudaBackend::DoEmbed(const EmbedParams& params) {
  SKV_ASSIGN_OR_RETURN(const int32_t* const tokens,
                       SendNumbers(params.tokens, params.num_tokens));
  return graphs_->Launch("LaunchEmbed", LaunchEmbed,
                         {.table = params.table->data.data(),
                          .table_stride = Bf16Stride(params.table->cols),
                          .tokens = tokens,
                          .out = params.out,
                          .num_tokens = graphs_->Rows(params.num_tokens),
                          .width = params.table->cols});
}

absl::Status CudaBackend::DoRmsNorm(const RmsNormParams& params) {
  return graphs_->Launch("LaunchRmsNorm", LaunchRmsNorm,
                         {.x = params.x,
                          .weight = params.weight,
                          .out = params.out,
                          .num_rows = graphs_->Rows(params.num_rows),
                          .width = params.width,
                          .epsilon = params.epsilon});
}

absl::Status CudaBackend::DoSwiGlu(const SwiGluParams& params) {
  return graphs_->Launch("LaunchSwiGlu", LaunchSwiGlu,
                         {.gate_up = params.gate_up,
                          .out = params.out,
                          .num_rows = graphs_->Rows(params.num_rows),
                          .width = params.width});
}

absl::Status CudaBackend::DoGatherRows(const GatherRowsParams& params) {
  SKV_ASSIGN_OR_RETURN(const int32_t* const rows,
                       SendNumbers(params.rows, params.num_rows));
  return graphs_->Launch("LaunchGatherRows", LaunchGatherRows,
                         {.x = params.x,
                          .rows = rows,
                          .out = params.out,
                          .num_rows = graphs_->Rows(params.num_rows),
                          .width = params.width});
}

absl::Status CudaBackend::DoRopeTable(const RopeTableParams& params) {
  SKV_ASSIGN_OR_RETURN(const int32_t* const positions,
                       SendNumbers(params.positions, params.num_tokens));
  return graphs_->Launch("LaunchRopeTable", LaunchRopeTable,
                         {.positions = positions,
                          .inverse_frequency = params.inverse_frequency,
                          .cos_sin = params.cos_sin,
                          .num_tokens = graphs_->Rows(params.num_tokens),
                          .half_dims = params.half_dims,
                          .magnitude = params.magnitude});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(
    const CudaBackendOptions& options) {
  SKV_ASSIGN_OR_RETURN(CudaParts parts, MakeCudaParts(options));
  return std::make_unique<CudaBackend>(std::move(parts));
}

}  // namespace sentencekv
