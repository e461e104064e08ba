#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cstring>

#include "fmt/format.h"
#include "kernels/cpu/exp2_fraction.h"
#include "kernels/cpu/row_tiles.h"
#include "kernels/kv_layout.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Floats of queries that are copied in about 10 microseconds: more than waking
// a thread costs.
constexpr int64_t kCopyFloats = 64 * 1024;

absl::Status Reserve(GrowingMemory& memory, int64_t floats, const char* what) {
  const size_t size_bytes = static_cast<size_t>(floats) * sizeof(float);
  if (memory.AtLeast(size_bytes) != nullptr) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      fmt::format("Attention: no memory for {} bytes of {}", size_bytes, what));
}

float* Floats(GrowingMemory& memory) {
  return reinterpret_cast<float*>(memory.AtLeast(0));
}

// One sequence's queries into [G][rows][H / G][D].
void ScaleQueries(WorkerPool& pool, const AttentionParams& params,
                  const KvSequence& sequence, float* queries) {
  const int64_t num_kv_heads = params.kv.layout.num_kv_heads;
  const int64_t dim = params.kv.layout.head_dim;
  const int64_t width = params.num_heads * dim;
  const int64_t group_width = width / num_kv_heads;
  const int64_t stride = width + 2 * num_kv_heads * dim;
  const float scale = params.scale * kLog2E;
  ForRowTiles(
      pool, sequence.num_rows, kCopyFloats / width,
      [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const float* from = params.qkv + (sequence.row_begin + row) * stride;
          for (int64_t g = 0; g < num_kv_heads; ++g) {
            float* to = queries + (g * sequence.num_rows + row) * group_width;
            for (int64_t i = 0; i < group_width; ++i) {
              to[i] = *from++ * scale;
            }
          }
        }
      });
}

// What the threads of a job need. A tile's scratch is its result, then what the
// kernel works with.
struct Context {
  const AttentionKernels* kernels;
  const PlannedTile* tiles;
  int64_t result_floats;  // of the largest tile, whole cache lines
};

int64_t WholeLines(int64_t floats) { return (floats + 15) / 16 * 16; }

void ComputeTile(const void* data, int64_t index, void* scratch) {
  const Context& context = *static_cast<const Context*>(data);
  const PlannedTile& planned = context.tiles[index];
  auto* result = static_cast<float*>(scratch);
  float* rest = result + context.result_floats;
  if (planned.partials != nullptr) {
    context.kernels->merge(planned.tile, planned.partials, rest, result);
  } else {
    context.kernels->attend(planned.tile, rest, result);
  }
}

void CommitTile(const void* data, int64_t index, const void* scratch) {
  const PlannedTile& planned = static_cast<const Context*>(data)->tiles[index];
  const auto* result = static_cast<const float*>(scratch);
  const AttentionTile& tile = planned.tile;
  const auto floats = static_cast<size_t>(ResultFloats(tile));
  if (tile.is_part) {
    std::memcpy(planned.out, result, floats * sizeof(float));
    return;
  }
  const int64_t width = tile.num_heads * tile.head_dim;
  for (int64_t row = 0; row < tile.num_rows; ++row) {
    std::memcpy(planned.out + row * planned.out_stride, result + row * width,
                static_cast<size_t>(width) * sizeof(float));
  }
}

}  // namespace

absl::Status AttentionRunner::Run(const AttentionParams& params) {
  Operation& operation = FreeOperation();
  SKV_RETURN_IF_ERROR(CopyInputs(params, operation));
  PlanTiles(params, pool_.num_threads(), Floats(operation.queries),
            operation.pages.data(), &operation.tiles);
  return Execute(params.kv.base, operation);
}

absl::Status AttentionRunner::RunSelected(
    const SelectedAttentionParams& params) {
  Operation& operation = FreeOperation();
  SKV_RETURN_IF_ERROR(CopyInputs(params, operation));
  PlanTiles(params, Floats(operation.queries), operation.pages.data(),
            operation.masks.data(), &operation.tiles);
  return Execute(params.kv.base, operation);
}

absl::Status AttentionRunner::Execute(const void* layer, Operation& operation) {
  const int64_t part_floats = TakeLongTiles(
      pool_.num_threads(), &operation.tiles, &operation.cut_tiles);
  if (part_floats > 0) {
    SKV_RETURN_IF_ERROR(
        Reserve(operation.partials, part_floats, "partial results"));
    AppendParts(Floats(operation.partials), &operation.cut_tiles,
                &operation.tiles);
  }
  operation.attend_job = RunTiles(operation.tiles);
  RememberReader(layer, operation.attend_job);
  operation.merge_job = RunTiles(operation.cut_tiles);
  return absl::OkStatus();
}

void AttentionRunner::WaitForReaders(const void* layer) const {
  for (const LayerReader& reader : readers_) {
    if (reader.layer != layer) continue;
    pool_.WaitForReaders(reader.job_number);
    return;
  }
}

void AttentionRunner::RememberReader(const void* layer, uint32_t job_number) {
  for (LayerReader& reader : readers_) {
    if (reader.layer != layer) continue;
    reader.job_number = job_number;
    return;
  }
  readers_.push_back({layer, job_number});
}

AttentionRunner::Operation& AttentionRunner::FreeOperation() {
  for (Operation& operation : operations_) {
    if (!pool_.MayRead(operation.attend_job) &&
        !pool_.MayRead(operation.merge_job)) {
      return operation;
    }
  }
  return operations_.emplace_back();
}

absl::Status AttentionRunner::CopyInputs(const AttentionParams& params,
                                         Operation& operation) {
  const int64_t width = params.num_heads * params.kv.layout.head_dim;
  int64_t num_rows = 0;
  operation.pages.clear();
  for (int64_t i = 0; i < params.num_sequences; ++i) {
    const KvSequence& sequence = params.sequences[i];
    num_rows += sequence.num_rows;
    operation.pages.insert(operation.pages.end(), sequence.pages,
                           sequence.pages + NumPages(sequence));
  }
  SKV_RETURN_IF_ERROR(Reserve(operation.queries, num_rows * width, "queries"));
  float* queries = Floats(operation.queries);
  for (int64_t i = 0; i < params.num_sequences; ++i) {
    ScaleQueries(pool_, params, params.sequences[i], queries);
    queries += params.sequences[i].num_rows * width;
  }
  return absl::OkStatus();
}

absl::Status AttentionRunner::CopyInputs(const SelectedAttentionParams& params,
                                         Operation& operation) {
  const KvLayout& layout = params.kv.layout;
  const int64_t width =
      params.num_heads / layout.num_kv_heads * layout.head_dim;
  const int64_t stride =
      (params.num_heads + 2 * layout.num_kv_heads) * layout.head_dim;
  operation.pages.clear();
  operation.masks.clear();
  SKV_RETURN_IF_ERROR(
      Reserve(operation.queries, params.num_selections * width, "queries"));
  float* to = Floats(operation.queries);
  const float scale = params.scale * kLog2E;
  for (int64_t i = 0; i < params.num_selections; ++i) {
    const SelectedTokens& selection = params.selections[i];
    operation.pages.insert(operation.pages.end(), selection.pages,
                           selection.pages + selection.num_pages);
    operation.masks.insert(operation.masks.end(), selection.masks,
                           selection.masks + selection.num_pages);
    const float* from =
        params.qkv + selection.row * stride + selection.kv_head * width;
    for (int64_t d = 0; d < width; ++d) *to++ = from[d] * scale;
  }
  return absl::OkStatus();
}

// Returns the job's number.
uint32_t AttentionRunner::RunTiles(const std::vector<PlannedTile>& tiles) {
  Context context = {&kernels_, tiles.data(), 0};
  int64_t scratch_floats = 0;
  for (const PlannedTile& planned : tiles) {
    const AttentionTile& tile = planned.tile;
    context.result_floats =
        std::max(context.result_floats, WholeLines(ResultFloats(tile)));
    scratch_floats =
        std::max(scratch_floats,
                 kernels_.scratch_floats(tile.num_queries(), tile.head_dim));
  }
  WorkerPool::RepeatableJob job;
  job.num_tiles = static_cast<int64_t>(tiles.size());
  job.compute = ComputeTile;
  job.commit = CommitTile;
  job.scratch_bytes =
      static_cast<size_t>(context.result_floats + scratch_floats) *
      sizeof(float);
  job.context = &context;
  job.context_bytes = sizeof(context);
  return pool_.RunRepeatable(job);
}

}  // namespace sentencekv
