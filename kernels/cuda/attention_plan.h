// How an attention operation is cut into tiles, each computed by one block of
// threads a part. Results do not depend on it. Host code.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/op_params.h"

namespace sentencekv {

// Tiles of one launch.
struct AttentionTiles {
  std::vector<QueryTile> tiles;
  int64_t num_parts = 0;
  bool has_cut_tiles = false;
};

// An operation: a launch for either size that has tiles. Both use the same
// pages, masks and states. Kept from one operation to the next, so that memory
// is allocated only while operations grow.
struct AttentionPlan {
  AttentionTiles few;
  AttentionTiles many;
  // Of choices: all their tiles are of one size.
  AttentionTileSize size() const {
    return few.tiles.empty() ? AttentionTileSize::kMany
                             : AttentionTileSize::kFew;
  }
  const AttentionTiles& tiles() const {
    return size() == AttentionTileSize::kFew ? few : many;
  }
  int64_t num_kv_heads = 0;  // as AttentionLaunch has it
  // Of all sequences or choices, to be copied to the device.
  std::vector<int32_t> pages;
  std::vector<uint16_t> masks;  // of choices
};

// What is known about the device.
struct AttentionDevice {
  int64_t num_processors = 1;  // streaming multiprocessors
  int64_t state_floats = 0;    // memory for the states of parts; tiles whose
                               // parts do not fit are not cut
};

// Choices that the device will list: choice c is of row rows[c / G] and KV head
// c % G, and its list begins at c x most_pages.
struct ListedChoices {
  std::span<const int64_t> rows;
  KvLayout layout;
  int64_t num_heads = 0;   // H
  int64_t most_pages = 0;  // of a list
};

// REQUIRES: checked arguments.
void PlanAttention(const AttentionParams& params, const AttentionDevice& device,
                   AttentionPlan* plan);
void PlanAttention(const SelectedAttentionParams& params,
                   const AttentionDevice& device, AttentionPlan* plan);
// Tiles as they are if all lists are full; each choice has the same number.
void PlanAttention(const ListedChoices& choices, const AttentionDevice& device,
                   AttentionPlan* plan);

// Floats of states that let every one of `num_rows` decoding rows be cut, each
// `num_tokens` long: the least to give a device.
int64_t AttentionStateFloatsFor(int64_t num_rows, int64_t num_tokens,
                                int64_t num_heads, int64_t head_dim);

}  // namespace sentencekv
