// How an attention operation is cut into tiles, each computed by one thread.
// Results do not depend on it; see attention_tile.h for the arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/attention_tile.h"
#include "kernels/op_params.h"

namespace sentencekv {

// A tile, and where its result goes once one thread has computed it.
struct PlannedTile {
  AttentionTile tile;
  // Of a tile whose parts are done: their states, [partitions, queries, state],
  // to be merged.
  const float* partials = nullptr;
  float* out = nullptr;    // first row, or the states of a part
  int64_t out_stride = 0;  // floats from row to row; not of a part
};

// Pages that hold a sequence after the step.
int64_t NumPages(const KvSequence& sequence);
// Floats of a tile's result: rows of `out`, or the states of a part.
int64_t ResultFloats(const AttentionTile& tile);

// The tiles of an operation. `queries` are scaled, [sequences][G][rows][H /
// G][D] or [selections][H / G][D]; `pages` and `masks` are those of all
// sequences or selections, one after the other.
void PlanTiles(const AttentionParams& params, int num_threads,
               const float* queries, const int32_t* pages,
               std::vector<PlannedTile>* tiles);
void PlanTiles(const SelectedAttentionParams& params, const float* queries,
               const int32_t* pages, const uint16_t* masks,
               std::vector<PlannedTile>* tiles);

// Moves tiles that would keep one thread busy while others idle to `cut_tiles`.
// Returns the floats that the results of their parts need.
int64_t TakeLongTiles(int num_threads, std::vector<PlannedTile>* tiles,
                      std::vector<PlannedTile>* cut_tiles);
// Appends the parts of cut tiles, whose results go to `partials`.
void AppendParts(float* partials, std::vector<PlannedTile>* cut_tiles,
                 std::vector<PlannedTile>* tiles);

}  // namespace sentencekv
