#include "kernels/cpu/attention_plan.h"

#include <algorithm>

#include "kernels/rounding.h"

namespace sentencekv {
namespace {

// Queries of a prefill tile: enough to make the conversion of K and V small
// beside the products, few enough for their states to stay in the L2 cache.
constexpr int64_t kTileQueries = 192;
// Below this many a tile is not cut for the sake of more threads.
constexpr int64_t kLeastQueries = 24;
// Tiles per thread that even out their different lengths.
constexpr int64_t kTilesPerThread = 4;
// A tile is cut into parts when it is more than this fraction of a thread's
// work: the chunk of a long prompt beside short decoding rows.
constexpr int64_t kLongTile = 8;

// Rows of a tile: as many as reuse asks for, fewer when threads would idle.
int64_t RowsPerTile(const AttentionParams& params, int num_threads) {
  const int64_t num_kv_heads = params.kv.layout.num_kv_heads;
  const int64_t num_heads = params.num_heads / num_kv_heads;
  const auto count_tiles = [&](int64_t rows_per_tile) {
    int64_t count = 0;
    for (int64_t i = 0; i < params.num_sequences; ++i) {
      count += CeilDiv(params.sequences[i].num_rows, rows_per_tile);
    }
    return count * num_kv_heads;
  };
  int64_t rows = std::max<int64_t>(kTileQueries / num_heads, 1);
  if (num_threads == 1) return rows;
  while (rows / 2 * num_heads >= kLeastQueries &&
         count_tiles(rows) < kTilesPerThread * num_threads) {
    rows /= 2;
  }
  return rows;
}

// Products of a query with a key, all in all.
int64_t WorkOf(const AttentionTile& tile) {
  return tile.num_queries() * (tile.position + tile.num_rows);
}

}  // namespace

int64_t NumPages(const KvSequence& sequence) {
  return CeilDiv(sequence.position + sequence.num_rows, kPageTokens);
}

int64_t ResultFloats(const AttentionTile& tile) {
  return tile.num_queries() *
         (tile.is_part ? StateFloats(tile.head_dim) : tile.head_dim);
}

void PlanTiles(const AttentionParams& params, int num_threads,
               const float* queries, const int32_t* pages,
               std::vector<PlannedTile>* tiles) {
  const KvLayout& layout = params.kv.layout;
  const int64_t group = params.num_heads / layout.num_kv_heads;
  const int64_t rows_per_tile = RowsPerTile(params, num_threads);
  tiles->clear();
  for (int64_t i = 0; i < params.num_sequences; ++i) {
    const KvSequence& sequence = params.sequences[i];
    PlannedTile planned;
    planned.out_stride = params.num_heads * layout.head_dim;
    AttentionTile& tile = planned.tile;
    tile.num_heads = group;
    tile.head_dim = layout.head_dim;
    tile.page_bytes = params.kv.page_stride();
    tile.pages = pages;
    tile.dtype = layout.dtype;
    // Last rows first: they see the most keys, and short tiles at the end
    // leave no thread waiting long.
    for (int64_t end = sequence.num_rows; end > 0;) {
      const int64_t begin = (end - 1) / rows_per_tile * rows_per_tile;
      tile.num_rows = end - begin;
      tile.position = sequence.position + begin;
      for (int64_t g = 0; g < layout.num_kv_heads; ++g) {
        tile.kv = params.kv.head(0, g);
        tile.q =
            queries + (g * sequence.num_rows + begin) * group * layout.head_dim;
        planned.out = params.out +
                      (sequence.row_begin + begin) * planned.out_stride +
                      g * group * layout.head_dim;
        tiles->push_back(planned);
      }
      end = begin;
    }
    queries += sequence.num_rows * params.num_heads * layout.head_dim;
    pages += NumPages(sequence);
  }
}

void PlanTiles(const SelectedAttentionParams& params, const float* queries,
               const int32_t* pages, const uint16_t* masks,
               std::vector<PlannedTile>* tiles) {
  const KvLayout& layout = params.kv.layout;
  PlannedTile planned;
  AttentionTile& tile = planned.tile;
  tile.q = queries;
  tile.num_rows = 1;
  tile.num_heads = params.num_heads / layout.num_kv_heads;
  tile.head_dim = layout.head_dim;
  tile.page_bytes = params.kv.page_stride();
  tile.pages = pages;
  tile.masks = masks;
  tile.dtype = layout.dtype;
  const int64_t width = tile.num_heads * tile.head_dim;
  tiles->clear();
  for (int64_t i = 0; i < params.num_selections; ++i) {
    const SelectedTokens& selection = params.selections[i];
    tile.position = selection.num_pages * kPageTokens - 1;
    tile.kv = params.kv.head(0, selection.kv_head);
    planned.out = params.out +
                  selection.row * params.num_heads * layout.head_dim +
                  selection.kv_head * width;
    tiles->push_back(planned);
    tile.q += width;
    tile.pages += selection.num_pages;
    tile.masks += selection.num_pages;
  }
}

int64_t TakeLongTiles(int num_threads, std::vector<PlannedTile>* tiles,
                      std::vector<PlannedTile>* cut_tiles) {
  cut_tiles->clear();
  if (num_threads == 1) return 0;
  int64_t work = 0;
  for (const PlannedTile& planned : *tiles) work += WorkOf(planned.tile);
  const auto is_long = [&](const PlannedTile& planned) {
    return planned.tile.num_partitions() > 1 &&
           WorkOf(planned.tile) * kLongTile * num_threads > work;
  };
  int64_t floats = 0;
  for (const PlannedTile& planned : *tiles) {
    if (!is_long(planned)) continue;
    cut_tiles->push_back(planned);
    const AttentionTile& tile = planned.tile;
    floats +=
        tile.num_partitions() * tile.num_queries() * StateFloats(tile.head_dim);
  }
  std::erase_if(*tiles, is_long);
  return floats;
}

void AppendParts(float* partials, std::vector<PlannedTile>* cut_tiles,
                 std::vector<PlannedTile>* tiles) {
  for (PlannedTile& cut : *cut_tiles) {
    PlannedTile part = cut;
    cut.partials = partials;
    part.tile.is_part = true;
    for (int64_t i = 0; i < cut.tile.num_partitions(); ++i) {
      part.tile.partition = i;
      part.out = partials;
      partials += ResultFloats(part.tile);
      tiles->push_back(part);
    }
  }
}

}  // namespace sentencekv
