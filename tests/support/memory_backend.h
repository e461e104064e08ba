// A backend that has memory and computes nothing: for tests of what lies
// between the model and the pool.
#pragma once

#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "fmt/format.h"
#include "kernels/backend.h"

namespace sentencekv {

// Host memory, and copies of pages; every other operation is kUnimplemented.
// Counts what is allocated and copied.
class MemoryBackend final : public Backend {
 public:
  // Allocate fails beyond `limit_bytes` in all.
  explicit MemoryBackend(size_t limit_bytes = SIZE_MAX)
      : limit_bytes_(limit_bytes) {}

  std::string description() const override { return "memory only"; }
  size_t allocated_bytes() const { return allocated_bytes_; }
  int64_t num_page_copies() const { return num_page_copies_; }
  // From now on copies of pages end with `status`.
  void FailPageCopies(absl::Status status) { copy_status_ = std::move(status); }

  absl::Status CopyToDevice(void* destination, const void* source,
                            size_t size_bytes) override {
    std::memcpy(destination, source, size_bytes);
    return absl::OkStatus();
  }
  absl::Status CopyToHost(void* destination, const void* source,
                          size_t size_bytes) override {
    std::memcpy(destination, source, size_bytes);
    return absl::OkStatus();
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  void Prepare(void* data, size_t size_bytes) override {
    absl::MutexLock lock(&mutex_);
    prepared_.emplace_back(static_cast<std::byte*>(data), size_bytes);
  }
  // Every range given to Prepare, in order.
  std::vector<std::span<std::byte>> prepared() const {
    absl::MutexLock lock(&mutex_);
    return prepared_;
  }

 private:
  absl::StatusOr<Buffer> DoAllocate(size_t size_bytes, MemoryUse) override {
    if (size_bytes > limit_bytes_ - allocated_bytes_) {
      return absl::ResourceExhaustedError(
          fmt::format("no memory for {} bytes", size_bytes));
    }
    const size_t rounded = (size_bytes + 63) / 64 * 64;
    void* data = std::aligned_alloc(64, rounded == 0 ? 64 : rounded);
    if (data == nullptr) return absl::ResourceExhaustedError("out of memory");
    std::memset(data, 0, rounded);
    allocated_bytes_ += size_bytes;
    return Buffer(data, size_bytes, &MemoryBackend::Free, this);
  }
  static void Free(void* context, void* data, size_t size_bytes) {
    static_cast<MemoryBackend*>(context)->allocated_bytes_ -= size_bytes;
    std::free(data);
  }
  static absl::Status NoArithmetic() {
    return absl::UnimplementedError("this backend computes nothing");
  }

  absl::StatusOr<WeightMatrix> DoPackWeights(std::span<const MatrixSource>,
                                             WeightFormat) override {
    return NoArithmetic();
  }
  absl::Status DoEmbed(const EmbedParams&) override { return NoArithmetic(); }
  absl::Status DoRmsNorm(const RmsNormParams&) override {
    return NoArithmetic();
  }
  absl::Status DoMatMul(const MatMulParams&) override { return NoArithmetic(); }
  absl::Status DoSwiGlu(const SwiGluParams&) override { return NoArithmetic(); }
  absl::Status DoGatherRows(const GatherRowsParams&) override {
    return NoArithmetic();
  }
  absl::Status DoRopeTable(const RopeTableParams&) override {
    return NoArithmetic();
  }
  absl::Status DoRopeStoreKv(const RopeStoreKvParams&) override {
    return NoArithmetic();
  }
  absl::Status DoAttention(const AttentionParams&) override {
    return NoArithmetic();
  }
  absl::Status DoSelectedAttention(const SelectedAttentionParams&) override {
    return NoArithmetic();
  }
  absl::Status DoIndexSentences(const IndexSentencesParams&) override {
    return NoArithmetic();
  }
  absl::Status DoScoreSentences(const ScoreSentencesParams&) override {
    return NoArithmetic();
  }
  absl::Status DoAttentionMass(const AttentionMassParams&) override {
    return NoArithmetic();
  }
  absl::Status DoReadKeys(const ReadKeysParams&) override {
    return NoArithmetic();
  }
  absl::Status DoCopyRows(const CopyRowsParams&) override {
    return NoArithmetic();
  }
  absl::Status DoCopyPages(const CopyPagesParams& params) override {
    const KvLayout& layout = params.layout;
    const auto page_at = [&](int64_t layer, int32_t page) {
      return static_cast<std::byte*>(params.pool) +
             layer * layout.layer_bytes() + page * layout.page_bytes();
    };
    for (int64_t layer = 0; layer < layout.num_layers; ++layer) {
      for (int64_t i = 0; i < params.num_pages; ++i) {
        std::memcpy(page_at(layer, params.destination[i]),
                    page_at(layer, params.source[i]), layout.page_bytes());
      }
    }
    num_page_copies_ += params.num_pages;
    return copy_status_;
  }

  const size_t limit_bytes_;
  size_t allocated_bytes_ = 0;
  int64_t num_page_copies_ = 0;
  absl::Status copy_status_;
  mutable absl::Mutex mutex_;
  std::vector<std::span<std::byte>> prepared_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sentencekv
