#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cstring>

#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/cpu/weight_layout.h"
#include "kernels/rounding.h"

namespace sentencekv {
namespace {

// Rows of x that one tile of work goes over, all row tiles while its weights
// lie in the first-level cache: many enough to pay for fetching the weights,
// few enough for x and the result to stay in the second level (measured: 24 and
// 48 alike, 96 and 192 slower by a tenth at 512 rows).
constexpr int64_t kChunkRows = 8 * kMaxTileRows;
// Weights of one tile: about a microsecond of reading memory, so that taking a
// tile (some 50 ns) costs little and the last tile ends soon.
constexpr int64_t kTileWeightBytes = 20 * 1024;
constexpr int64_t kMaxWeightTiles = 256;
// Below this many bytes of weights passed over, starting a job on other
// threads costs more than it brings.
constexpr int64_t kInlineBytes = 32 * 1024;
// Activations (floats) up to which the caller prepares them alone.
constexpr int64_t kInlinePrepare = 8 * 1024;

// How a product [T, K] x [N, K]^T is cut: chunks of rows of x, times groups of
// weight panels.
struct Cut {
  int64_t num_rows = 0;    // T
  int64_t num_panels = 0;  // ceil(N / 16)
  int64_t num_chunks = 0;
  int64_t group_panels = 0;
  int64_t num_groups = 0;
};

Cut CutProduct(const MatMulParams& params) {
  const WeightMatrix& weight = *params.weight;
  const int64_t panel_bytes = PanelBytes(weight.format, weight.cols);
  Cut cut;
  cut.num_rows = params.num_rows;
  cut.num_panels = NumPanels(weight.rows);
  cut.num_chunks = CeilDiv(cut.num_rows, kChunkRows);
  cut.group_panels =
      std::clamp(std::max(kTileWeightBytes / panel_bytes,
                          CeilDiv(cut.num_panels, kMaxWeightTiles)),
                 int64_t{1}, cut.num_panels);
  const int64_t passes = CeilDiv(cut.num_rows, kMaxTileRows);
  if (cut.num_chunks == 1 &&
      panel_bytes * cut.num_panels * passes <= kInlineBytes) {
    cut.group_panels = cut.num_panels;
  }
  cut.num_groups = CeilDiv(cut.num_panels, cut.group_panels);
  return cut;
}

// What the tiles of a job need; copied into the pool's job.
struct Job {
  Cut cut;
  CpuKernels::MultiplyPanels multiply;
  const std::byte* panels;
  int64_t panel_bytes;
  const std::byte* activations;
  int64_t row_bytes;  // of activations
  int64_t rows;       // N
  int64_t cols;       // K
  const float* bias;
  float* out;
  bool accumulate;
};
static_assert(sizeof(Job) <= WorkerPool::kMaxContextBytes);

// A tile's part of the output.
struct Region {
  int64_t row_begin;  // in T
  int64_t num_rows;
  int64_t panel_begin;
  int64_t num_panels;
};

// All groups of a chunk come before the next chunk, whose activations then
// take the cache over.
Region RegionOf(const Cut& cut, int64_t tile) {
  Region region;
  region.row_begin = tile / cut.num_groups * kChunkRows;
  region.num_rows = std::min(kChunkRows, cut.num_rows - region.row_begin);
  region.panel_begin = tile % cut.num_groups * cut.group_panels;
  region.num_panels =
      std::min(cut.group_panels, cut.num_panels - region.panel_begin);
  return region;
}

// Fills scratch, [region rows, 16 * region panels].
void ComputeTile(const void* context, int64_t tile, void* scratch) {
  const Job& job = *static_cast<const Job*>(context);
  const Region region = RegionOf(job.cut, tile);
  CpuKernels::PanelProduct product;
  product.panels = job.panels + region.panel_begin * job.panel_bytes;
  product.num_panels = region.num_panels;
  product.cols = job.cols;
  product.out_stride = region.num_panels * kPanelRows;
  for (int64_t row = 0; row < region.num_rows; row += product.num_rows) {
    product.num_rows = NextTileRows(region.num_rows - row);
    product.tile = job.activations + (region.row_begin + row) * job.row_bytes;
    product.out = static_cast<float*>(scratch) + row * product.out_stride;
    job.multiply(product);
  }
}

void CommitRow(const float* values, const float* bias, bool accumulate,
               int64_t count, float* out) {
  if (bias == nullptr && !accumulate) {
    std::memcpy(out, values, sizeof(float) * static_cast<size_t>(count));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    float value = values[i];
    if (bias != nullptr) value += bias[i];
    if (accumulate) value += out[i];
    out[i] = value;
  }
}

void CommitTile(const void* context, int64_t tile, const void* scratch) {
  const Job& job = *static_cast<const Job*>(context);
  const Region region = RegionOf(job.cut, tile);
  const int64_t column = region.panel_begin * kPanelRows;
  const int64_t count =
      std::min(region.num_panels * kPanelRows, job.rows - column);
  const float* bias = job.bias == nullptr ? nullptr : job.bias + column;
  for (int64_t row = 0; row < region.num_rows; ++row) {
    CommitRow(static_cast<const float*>(scratch) +
                  row * region.num_panels * kPanelRows,
              bias, job.accumulate, count,
              job.out + (region.row_begin + row) * job.rows + column);
  }
}

}  // namespace

MatMulRunner::Activations& MatMulRunner::FreeActivations() {
  for (Activations& activations : activations_) {
    if (!pool_.MayRead(activations.job_number)) return activations;
  }
  return activations_.emplace_back();
}

void MatMulRunner::Prepare(const MatMulParams& params, std::byte* activations) {
  const WeightMatrix& weight = *params.weight;
  const auto prepare = kernels_.prepare_rows[static_cast<int>(weight.format)];
  const int64_t row_bytes = TileRowBytes(weight.format, weight.cols);
  const auto prepare_rows = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end;) {
      const int64_t chunk_end = (row / kChunkRows + 1) * kChunkRows;
      const int num_rows =
          NextTileRows(std::min(chunk_end, params.num_rows) - row);
      prepare(params.x + row * weight.cols, weight.cols, num_rows,
              activations + row * row_bytes);
      row += num_rows;
    }
  };
  if (params.num_rows * weight.cols <= kInlinePrepare) {
    prepare_rows(0, params.num_rows);
    return;
  }
  // Steps that begin where tiles begin, in every chunk.
  constexpr int64_t kStep = 2 * kMaxTileRows;
  static_assert(kChunkRows % kStep == 0);
  pool_.ParallelFor(CeilDiv(params.num_rows, kStep), [&](int64_t step) {
    prepare_rows(step * kStep, std::min((step + 1) * kStep, params.num_rows));
  });
}

absl::Status MatMulRunner::Run(const MatMulParams& params) {
  const WeightMatrix& weight = *params.weight;
  const int64_t row_bytes = TileRowBytes(weight.format, weight.cols);
  Activations& activations = FreeActivations();
  const auto size_bytes = static_cast<size_t>(row_bytes * params.num_rows);
  std::byte* prepared = activations.memory.AtLeast(size_bytes);
  if (prepared == nullptr) {
    return absl::ResourceExhaustedError(fmt::format(
        "MatMul: no memory for {} bytes of activations", size_bytes));
  }
  Prepare(params, prepared);
  const int format = static_cast<int>(weight.format);
  const Job context = {
      .cut = CutProduct(params),
      .multiply = kernels_.multiply_panels[format],
      .panels = weight.data.as<const std::byte>(),
      .panel_bytes = PanelBytes(weight.format, weight.cols),
      .activations = prepared,
      .row_bytes = row_bytes,
      .rows = weight.rows,
      .cols = weight.cols,
      .bias = params.bias,
      .out = params.out,
      .accumulate = params.accumulate,
  };
  const Cut& cut = context.cut;
  WorkerPool::RepeatableJob job;
  job.num_tiles = cut.num_chunks * cut.num_groups;
  job.compute = ComputeTile;
  job.commit = CommitTile;
  job.scratch_bytes = static_cast<size_t>(std::min(kChunkRows, cut.num_rows) *
                                          cut.group_panels * kPanelRows *
                                          static_cast<int64_t>(sizeof(float)));
  job.context = &context;
  job.context_bytes = sizeof(context);
  activations.job_number = pool_.RunRepeatable(job);
  return absl::OkStatus();
}

}  // namespace sentencekv
