#include "kernels/cuda/cuda_backend.h"

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
        products_(std::move(parts.products)),
        attention_(*streams_, *ring_, *arena_, device_.num_processors,
                   std::move(parts.attention_states)),
        sentences_(*streams_, *ring_, *arena_),
        kv_(*streams_, *ring_, *arena_) {}
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
  absl::StatusOr<std::unique_ptr<SentenceChooser>> MakeSentenceChooser(
      const ChoosingRoom& room) override {
    return CudaChooser::Create(
        {*streams_, *ring_, *arena_, *pinned_, attention_}, room);
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
    return attention_.Run(params);
  }
  absl::Status DoSelectedAttention(
      const SelectedAttentionParams& params) override {
    return attention_.RunSelected(params);
  }
  absl::Status DoIndexSentences(const IndexSentencesParams& params) override {
    return sentences_.Index(params);
  }
  absl::Status DoScoreSentences(const ScoreSentencesParams& params) override {
    return sentences_.Score(params);
  }
  absl::Status DoAttentionMass(const AttentionMassParams& params) override {
    return attention_.RunMass(params);
  }
  absl::Status DoReadKeys(const ReadKeysParams& params) override {
    return kv_.ReadKeys(params);
  }
  absl::Status DoCopyPages(const CopyPagesParams& params) override {
    return kv_.CopyPages(params);
  }
  absl::Status DoCopyRows(const CopyRowsParams& params) override {
    return kv_.CopyRows(params);
  }

  cudaStream_t compute() const { return streams_->compute(); }
  // Sends one host array ahead of the kernel that reads it.
  template <typename T>
  absl::StatusOr<const T*> SendArray(const T* values, int64_t count);

  const CudaDevice device_;
  const std::unique_ptr<CudaStreams> streams_;
  const std::unique_ptr<DeviceArena> arena_;
  const std::unique_ptr<PinnedPool> pinned_;
  const std::unique_ptr<StagingRing> ring_;
  const std::unique_ptr<MatrixProducts> products_;
  CudaAttention attention_;
  SentenceRunner sentences_;
  KvRunner kv_;
};

template <typename T>
absl::StatusOr<const T*> CudaBackend::SendArray(const T* values,
                                                int64_t count) {
  SKV_ASSIGN_OR_RETURN(StagedArrays arrays,
                       ring_->Reserve(StagedArrays::Bytes<T>(count)));
  const T* device = arrays.Put(std::span(values, static_cast<size_t>(count)));
  SKV_RETURN_IF_ERROR(ring_->Send(arrays));
  return device;
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
  if (size_bytes == 0) return absl::OkStatus();
  SKV_RETURN_IF_ERROR(CheckCopy("CopyToDevice", destination, source));
  return ring_->CopyFromHost(static_cast<std::byte*>(destination),
                             static_cast<const std::byte*>(source), size_bytes);
}

absl::Status CudaBackend::CopyToHost(void* destination, const void* source,
                                     size_t size_bytes) {
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
                       SendArray(params.tokens, params.num_tokens));
  SKV_RETURN_IF_CUDA_ERROR(
      LaunchEmbed({.table = params.table->data.data(),
                   .table_stride = Bf16Stride(params.table->cols),
                   .tokens = tokens,
                   .out = params.out,
                   .num_tokens = params.num_tokens,
                   .width = params.table->cols},
                  compute()));
  return absl::OkStatus();
}

absl::Status CudaBackend::DoRmsNorm(const RmsNormParams& params) {
  SKV_RETURN_IF_CUDA_ERROR(LaunchRmsNorm({.x = params.x,
                                          .weight = params.weight,
                                          .out = params.out,
                                          .num_rows = params.num_rows,
                                          .width = params.width,
                                          .epsilon = params.epsilon},
                                         compute()));
  return absl::OkStatus();
}

absl::Status CudaBackend::DoSwiGlu(const SwiGluParams& params) {
  SKV_RETURN_IF_CUDA_ERROR(LaunchSwiGlu({.gate_up = params.gate_up,
                                         .out = params.out,
                                         .num_rows = params.num_rows,
                                         .width = params.width},
                                        compute()));
  return absl::OkStatus();
}

absl::Status CudaBackend::DoGatherRows(const GatherRowsParams& params) {
  SKV_ASSIGN_OR_RETURN(const int32_t* const rows,
                       SendArray(params.rows, params.num_rows));
  SKV_RETURN_IF_CUDA_ERROR(LaunchGatherRows({.x = params.x,
                                             .rows = rows,
                                             .out = params.out,
                                             .num_rows = params.num_rows,
                                             .width = params.width},
                                            compute()));
  return absl::OkStatus();
}

absl::Status CudaBackend::DoRopeTable(const RopeTableParams& params) {
  SKV_ASSIGN_OR_RETURN(const int32_t* const positions,
                       SendArray(params.positions, params.num_tokens));
  SKV_RETURN_IF_CUDA_ERROR(
      LaunchRopeTable({.positions = positions,
                       .inverse_frequency = params.inverse_frequency,
                       .cos_sin = params.cos_sin,
                       .num_tokens = params.num_tokens,
                       .half_dims = params.half_dims,
                       .magnitude = params.magnitude},
                      compute()));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(
    const CudaBackendOptions& options) {
  SKV_ASSIGN_OR_RETURN(CudaParts parts, MakeCudaParts(options));
  return std::make_unique<CudaBackend>(std::move(parts));
}

}  // namespace sentencekv
