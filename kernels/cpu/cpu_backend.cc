#include "kernels/cpu/cpu_backend.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <system_error>
#include <thread>

#include "fmt/format.h"
#include "kernels/argument_check.h"
#include "kernels/check.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/sentences.h"
#include "kernels/cpu/weight_layout.h"
#include "kernels/cpu/weight_packing.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr int kMaxThreads = 1024;

// AddressSanitizer watches the ends of single blocks, which an arena hides.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kUseArena = false;
#else
constexpr bool kUseArena = true;
#endif

int UsableCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(int num_threads, const CpuBackendOptions& options)
      : level_(options.level),
        kernels_(KernelsOf(options.level)),
        pool_(num_threads),
        matmul_(kernels_, pool_),
        attention_(kernels_.attention, pool_) {
    if (options.own_memory.has_value()) streams_.emplace(*options.own_memory);
  }
  // Workers left behind may still read what the runners keep.
  ~CpuBackend() override { pool_.Quiesce(); }

  std::string description() const override {
    return fmt::format("cpu {} {} thread{}{}", Name(level_),
                       pool_.num_threads(), pool_.num_threads() == 1 ? "" : "s",
                       has_own_memory() ? ", memory of its own" : "");
  }

  absl::Status CopyToDevice(void* destination, const void* source,
                            size_t size_bytes) override {
    pool_.Quiesce();  // a worker left behind may still read the destination
    return Copy("CopyToDevice", destination, source, size_bytes);
  }
  absl::Status CopyToHost(void* destination, const void* source,
                          size_t size_bytes) override {
    return Copy("CopyToHost", destination, source, size_bytes);
  }
  // Everything has run when its method returns, but a worker left behind may
  // still read.
  absl::Status Synchronize() override {
    pool_.Quiesce();
    if (streams_.has_value()) streams_->AwaitAll();
    return absl::OkStatus();
  }
  void Prepare(void* data, size_t size_bytes) override {
    PopulateMemory(static_cast<std::byte*>(data), size_bytes);
  }

  bool has_own_memory() const override { return streams_.has_value(); }
  absl::Status Transfer(DeviceStream stream,
                        std::span<const CopyRun> runs) override;
  absl::StatusOr<DeviceEvent> Record(DeviceStream stream) override;
  absl::Status Wait(DeviceStream stream, const DeviceEvent& event) override;

 private:
  static bool InArena(size_t size_bytes) {
    return kUseArena && size_bytes >= HugePageArena::kMinBlockBytes &&
           size_bytes < HugePageArena::kMaxBlockBytes;
  }
  // Buffer's deleter.
  static void Release(void* context, void* data, size_t size_bytes);
  static absl::Status Copy(const char* operation, void* destination,
                           const void* source, size_t size_bytes);

  absl::StatusOr<Buffer> DoAllocate(size_t size_bytes, MemoryUse use) override;
  absl::StatusOr<WeightMatrix> DoPackWeights(
      std::span<const MatrixSource> parts, WeightFormat format) override;
  absl::Status DoEmbed(const EmbedParams& params) override;
  absl::Status DoMatMul(const MatMulParams& params) override {
    return matmul_.Run(params);
  }
  absl::Status DoRmsNorm(const RmsNormParams& params) override {
    return Call(kernels_.rms_norm, params);
  }
  absl::Status DoSwiGlu(const SwiGluParams& params) override {
    return Call(kernels_.swiglu, params);
  }
  absl::Status DoGatherRows(const GatherRowsParams& params) override {
    return Call(kernels_.gather_rows, params);
  }
  absl::Status DoRopeTable(const RopeTableParams& params) override {
    return Call(kernels_.rope_table, params);
  }
  absl::Status DoRopeStoreKv(const RopeStoreKvParams& params) override {
    attention_.WaitForReaders(params.kv.base);
    return Call(kernels_.rope_store_kv, params);
  }
  absl::Status DoAttention(const AttentionParams& params) override {
    return attention_.Run(params);
  }
  absl::Status DoSelectedAttention(
      const SelectedAttentionParams& params) override {
    return attention_.RunSelected(params);
  }
  absl::Status DoIndexSentences(const IndexSentencesParams& params) override {
    RunIndexSentences(pool_, params, kernels_.sentences);
    return absl::OkStatus();
  }
  absl::Status DoScoreSentences(const ScoreSentencesParams& params) override {
    RunScoreSentences(pool_, params, kernels_.sentences);
    return absl::OkStatus();
  }
  absl::Status DoAttentionMass(const AttentionMassParams& params) override {
    RunAttentionMass(pool_, params, kernels_.sentences);
    return absl::OkStatus();
  }
  absl::Status DoReadKeys(const ReadKeysParams& params) override {
    return Call(RunReadKeys, params);
  }
  absl::Status DoCopyPages(const CopyPagesParams& params) override {
    pool_.Quiesce();
    return Call(kernels_.copy_pages, params);
  }
  absl::Status DoCopyRows(const CopyRowsParams& params) override {
    for (int64_t i = 0; i < params.num_rows; ++i) {
      std::memcpy(params.destination + i * params.destination_stride,
                  params.source + i * params.source_stride,
                  static_cast<size_t>(params.row_bytes));
    }
    return absl::OkStatus();
  }

  template <typename Params>
  absl::Status Call(void (*kernel)(WorkerPool&, const Params&),
                    const Params& params) {
    kernel(pool_, params);
    return absl::OkStatus();
  }

  const CpuLevel level_;
  const CpuKernels& kernels_;
  HugePageArena arena_;
  WorkerPool pool_;
  MatMulRunner matmul_;
  AttentionRunner attention_;
  std::optional<CopyStreams> streams_;  // of a device with memory of its own
};

absl::StatusOr<Buffer> CpuBackend::DoAllocate(size_t size_bytes,
                                              MemoryUse /*use*/) {
  std::byte* data = InArena(size_bytes) ? arena_.Allocate(size_bytes)
                                        : AllocateAligned(size_bytes);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        fmt::format("no memory for a buffer of {} bytes", size_bytes));
  }
  return Buffer(data, size_bytes, Release, this);
}

void CpuBackend::Release(void* context, void* data, size_t size_bytes) {
  auto* backend = static_cast<CpuBackend*>(context);
  // A worker left behind by a repeatable job may still read the buffer.
  backend->pool_.Quiesce();
  if (InArena(size_bytes)) {
    backend->arena_.Free(static_cast<std::byte*>(data));
  } else {
    FreeAligned(static_cast<std::byte*>(data), size_bytes);
  }
}

absl::Status CpuBackend::Copy(const char* operation, void* destination,
                              const void* source, size_t size_bytes) {
  if (size_bytes == 0) return absl::OkStatus();
  SKV_RETURN_IF_ERROR(ArgumentCheck(operation)
                          .NotNull("destination", destination)
                          .NotNull("source", source)
                          .status());
  std::memcpy(destination, source, size_bytes);
  return absl::OkStatus();
}

absl::Status CpuBackend::Transfer(DeviceStream stream,
                                  std::span<const CopyRun> runs) {
  if (!streams_.has_value()) return Backend::Transfer(stream, runs);
  streams_->Transfer(stream, runs);
  return absl::OkStatus();
}

// Operations have run when their method returns: an event of theirs has passed
// once no worker reads any more, and they wait for others by not beginning.
absl::StatusOr<DeviceEvent> CpuBackend::Record(DeviceStream stream) {
  if (!streams_.has_value()) return Backend::Record(stream);
  if (stream != DeviceStream::kCompute) return streams_->Record(stream);
  pool_.Quiesce();
  return DeviceEvent{};
}

absl::Status CpuBackend::Wait(DeviceStream stream, const DeviceEvent& event) {
  if (!streams_.has_value()) return Backend::Wait(stream, event);
  if (event.number == 0) return absl::OkStatus();
  if (stream == DeviceStream::kCompute) {
    streams_->Await(event);
  } else {
    streams_->Wait(stream, event);
  }
  return absl::OkStatus();
}

absl::StatusOr<WeightMatrix> CpuBackend::DoPackWeights(
    std::span<const MatrixSource> parts, WeightFormat format) {
  WeightMatrix matrix;
  matrix.format = format;
  matrix.cols = parts[0].cols;
  for (const MatrixSource& part : parts) matrix.rows += part.rows;
  if (HasBlocks(format) && matrix.cols % kBlockColumns != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "PackWeights: cols {} is not a multiple of {}, as format {} needs",
        matrix.cols, kBlockColumns, Name(format)));
  }
  const int64_t panel_bytes = PanelBytes(format, matrix.cols);
  const int64_t num_panels = NumPanels(matrix.rows);
  SKV_ASSIGN_OR_RETURN(matrix.data,
                       Allocate(static_cast<size_t>(num_panels * panel_bytes),
                                MemoryUse::kWeights));
  auto* data = matrix.data.as<std::byte>();
  pool_.ParallelFor(num_panels, [&](int64_t panel) {
    PackPanel(parts, format, panel, data + panel * panel_bytes);
  });
  return matrix;
}

absl::Status CpuBackend::DoEmbed(const EmbedParams& params) {
  const WeightMatrix& table = *params.table;
  const auto embed = [&](int64_t i) {
    UnpackRow(table, params.tokens[i], params.out + i * table.cols);
  };
  // A few rows take less time than waking a worker.
  if (params.num_tokens * table.cols <= 16 * 1024) {
    for (int64_t i = 0; i < params.num_tokens; ++i) embed(i);
  } else {
    pool_.ParallelFor(params.num_tokens, embed);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(
    const CpuBackendOptions& options) {
  if (options.num_threads < 0 || options.num_threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        fmt::format("num_threads must be in 0..{}, got {}", kMaxThreads,
                    options.num_threads));
  }
  SKV_RETURN_IF_ERROR(ParseCpuLevel(Name(options.level)).status());
  const int num_threads =
      options.num_threads == 0 ? UsableCores() : options.num_threads;
  try {
    return std::make_unique<CpuBackend>(std::min(num_threads, kMaxThreads),
                                        options);
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(
        fmt::format("cannot start {} threads: {}", num_threads, error.what()));
  }
}

}  // namespace sentencekv
