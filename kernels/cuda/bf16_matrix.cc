#include "kernels/cuda/bf16_matrix.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "kernels/block_formats.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/dtype.h"
#include "kernels/half.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Weights that one thread converts in some 10 milliseconds, which is much more
// than starting it takes.
constexpr int64_t kWeightsOfThread = int64_t{4} << 20;
constexpr int64_t kMaxThreads = 16;

int NumThreads(int64_t num_weights) {
  const auto num_cores =
      static_cast<int64_t>(std::thread::hardware_concurrency());
  return static_cast<int>(std::clamp<int64_t>(
      std::min({num_weights / kWeightsOfThread, num_cores, kMaxThreads}), 1,
      kMaxThreads));
}

// Leaves what lies between the columns and the stride as it is.
void RoundRow(const MatrixSource& part, int64_t row, uint16_t* out) {
  const int64_t row_bytes =
      part.cols / BlockElements(part.type) * BlockBytes(part.type);
  std::vector<float> values(static_cast<size_t>(part.cols));
  DequantizeRow(part.type, part.data + row * row_bytes, part.cols,
                values.data());
  std::ranges::transform(values, out, F32ToBf16);
}

}  // namespace

absl::Status UploadBf16Matrix(StagingRing& ring,
                              std::span<const MatrixSource> parts,
                              std::byte* device) {
  const int64_t cols = parts[0].cols;
  const size_t row_bytes = Bf16MatrixBytes(1, cols);
  const int64_t most_rows = std::max<int64_t>(
      1, static_cast<int64_t>(ring.segment_bytes() / row_bytes));
  int64_t num_weights = 0;
  for (const MatrixSource& part : parts) num_weights += part.rows * cols;
  WorkerPool pool(NumThreads(num_weights));
  // All 0, and stays so behind the columns.
  std::vector<uint16_t> rounded(
      static_cast<size_t>(most_rows * Bf16Stride(cols)));
  for (const MatrixSource& part : parts) {
    for (int64_t begin = 0; begin < part.rows; begin += most_rows) {
      const int64_t num_rows = std::min(most_rows, part.rows - begin);
      pool.ParallelFor(num_rows, [&](int64_t row) {
        RoundRow(part, begin + row, rounded.data() + row * Bf16Stride(cols));
      });
      const size_t bytes = static_cast<size_t>(num_rows) * row_bytes;
      SKV_RETURN_IF_ERROR(ring.CopyFromHost(
          device, reinterpret_cast<const std::byte*>(rounded.data()), bytes));
      device += bytes;
    }
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
