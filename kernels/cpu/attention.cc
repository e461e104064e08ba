#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

// Queries of a prefill tile: enough to make the conversion of K and V small
// beside the products, few enough for their states to stay in the L2 cache.
constexpr int64_t kTileQueries = 192;
// Below this many a tile is not cut for the sake of more threads.
constexpr int64_t kLeastQueries = 24;
// Tiles that are cut by partitions of keys instead: those of decoding.
constexpr int64_t kMostSplitQueries = 12;
// Tiles per thread that even out their different lengths.
constexpr int64_t kTilesPerThread = 4;

float* Floats(GrowingMemory& memory, int64_t count) {
  std::byte* data = memory.AtLeast(static_cast<size_t>(count) * sizeof(float));
  SKV_CHECK(data != nullptr);
  return reinterpret_cast<float*>(data);
}

// The calling thread's scratch. A function of its own, because a worker that
// runs a tile has not passed the declaration of a variable of RunAttention, and
// nothing would destroy it there.
GrowingMemory& ThreadScratch() {
  static thread_local GrowingMemory scratch;
  return scratch;
}

// A tile whose partitions were done apart.
struct SplitTile {
  AttentionTile tile;
  int64_t num_partitions;
  float* partials;  // [num_partitions, queries, state]
};

// The tiles of one operation. Kept by the calling thread, so that a step
// allocates nothing once it has seen its largest size.
struct Plan {
  std::vector<AttentionTile> tiles;
  std::vector<SplitTile> splits;
  GrowingMemory partials;
};

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t PartitionsOf(const AttentionTile& tile) {
  return CeilDiv(tile.position + tile.num_rows, kPartitionTokens);
}

int64_t CountTiles(const AttentionParams& params, int64_t rows_per_tile) {
  int64_t count = 0;
  for (int64_t i = 0; i < params.num_sequences; ++i) {
    count += CeilDiv(params.sequences[i].num_rows, rows_per_tile);
  }
  return count * params.kv.layout.num_kv_heads;
}

// Rows of a tile: as many as reuse asks for, fewer when threads would idle.
int64_t RowsPerTile(const AttentionParams& params, int64_t num_heads,
                    int num_threads) {
  int64_t rows = std::max<int64_t>(kTileQueries / num_heads, 1);
  if (num_threads == 1) return rows;
  while (rows / 2 * num_heads >= kLeastQueries &&
         CountTiles(params, rows) < kTilesPerThread * num_threads) {
    rows /= 2;
  }
  return rows;
}

AttentionTile MakeTile(const AttentionParams& params,
                       const KvSequence& sequence, int64_t kv_head,
                       int64_t first_row, int64_t num_rows) {
  const KvLayout& layout = params.kv.layout;
  const int64_t group = params.num_heads / layout.num_kv_heads;
  const int64_t dim = layout.head_dim;
  const int64_t row = sequence.row_begin + first_row;
  AttentionTile tile;
  tile.q_stride = (params.num_heads + 2 * layout.num_kv_heads) * dim;
  tile.q = params.qkv + row * tile.q_stride + kv_head * group * dim;
  tile.out_stride = params.num_heads * dim;
  tile.out = params.out + row * tile.out_stride + kv_head * group * dim;
  tile.num_rows = num_rows;
  tile.num_heads = group;
  tile.position = sequence.position + first_row;
  tile.head_dim = dim;
  tile.scale = params.scale;
  tile.kv = params.kv.head(0, kv_head);
  tile.page_bytes = layout.page_bytes();
  tile.pages = sequence.pages;
  tile.dtype = layout.dtype;
  tile.num_partitions = PartitionsOf(tile);
  return tile;
}

void MakeTiles(const AttentionParams& params, int num_threads, Plan& plan) {
  const int64_t num_kv_heads = params.kv.layout.num_kv_heads;
  const int64_t rows_per_tile =
      RowsPerTile(params, params.num_heads / num_kv_heads, num_threads);
  plan.tiles.clear();
  for (int64_t i = 0; i < params.num_sequences; ++i) {
    const KvSequence& sequence = params.sequences[i];
    // Last rows first: they see the most keys, and short tiles at the end
    // leave no thread waiting long.
    for (int64_t end = sequence.num_rows; end > 0;) {
      const int64_t begin = end % rows_per_tile == 0
                                ? end - rows_per_tile
                                : end - end % rows_per_tile;
      for (int64_t g = 0; g < num_kv_heads; ++g) {
        plan.tiles.push_back(MakeTile(params, sequence, g, begin, end - begin));
      }
      end = begin;
    }
  }
}

// Replaces small tiles of many partitions by a tile for each partition.
void SplitTiles(Plan& plan) {
  plan.splits.clear();
  int64_t floats = 0;
  for (const AttentionTile& tile : plan.tiles) {
    if (tile.num_queries() > kMostSplitQueries || tile.num_partitions == 1) {
      continue;
    }
    plan.splits.push_back({tile, tile.num_partitions, nullptr});
    floats +=
        tile.num_partitions * tile.num_queries() * StateFloats(tile.head_dim);
  }
  if (plan.splits.empty()) return;
  std::erase_if(plan.tiles, [](const AttentionTile& tile) {
    return tile.num_queries() <= kMostSplitQueries && tile.num_partitions > 1;
  });
  float* partials = Floats(plan.partials, floats);
  for (SplitTile& split : plan.splits) {
    split.partials = partials;
    for (int64_t i = 0; i < split.num_partitions; ++i) {
      AttentionTile part = split.tile;
      part.first_partition = i;
      part.num_partitions = 1;
      part.partials = partials;
      partials += part.num_queries() * StateFloats(part.head_dim);
      plan.tiles.push_back(part);
    }
  }
}

}  // namespace

void RunAttention(WorkerPool& pool, const AttentionParams& params,
                  const AttentionKernels& kernels) {
  static thread_local Plan plan;
  const int num_threads = pool.num_threads();
  Plan& tiles = plan;  // the caller's, on every thread of the job
  MakeTiles(params, num_threads, tiles);
  tiles.splits.clear();
  const auto num_tiles = static_cast<int64_t>(tiles.tiles.size());
  if (num_threads > 1 && num_tiles < kTilesPerThread * num_threads) {
    SplitTiles(tiles);
  }
  pool.ParallelFor(
      static_cast<int64_t>(tiles.tiles.size()), [&](int64_t index) {
        const AttentionTile& tile = tiles.tiles[index];
        float* floats =
            Floats(ThreadScratch(),
                   kernels.scratch_floats(tile.num_queries(), tile.head_dim));
        kernels.attend(tile, floats);
      });
  if (tiles.splits.empty()) return;
  pool.ParallelFor(
      static_cast<int64_t>(tiles.splits.size()), [&](int64_t index) {
        const SplitTile& split = tiles.splits[index];
        kernels.merge(split.tile, split.num_partitions, split.partials);
      });
}

}  // namespace sentencekv
