#include "kernels/cuda/cuda_attention.h"

#include <span>
#include <utility>

#include "kernels/cuda/attention_mass_kernels.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/status_macros.h"

namespace sentencekv {

CudaAttention::CudaAttention(CudaStreams& streams, StagingRing& ring,
                             DeviceArena& arena, int num_processors,
                             DeviceMemory states)
    : streams_(streams),
      ring_(ring),
      device_{.num_processors = num_processors,
              .state_floats =
                  static_cast<int64_t>(states.size_bytes() / sizeof(float))},
      states_(std::move(states)),
      mass_(arena) {}

template <typename Params>
absl::Status CudaAttention::Attend(const Params& params) {
  PlanAttention(params, device_, &plan_);
  return Launch({.qkv = params.qkv,
                 .out = params.out,
                 .kv = MakePagedKv(params.kv),
                 .num_heads = params.num_heads,
                 .scale = params.scale});
}

absl::Status CudaAttention::Run(const AttentionParams& params) {
  return Attend(params);
}

absl::Status CudaAttention::RunSelected(const SelectedAttentionParams& params) {
  return Attend(params);
}

absl::Status CudaAttention::Launch(AttentionLaunch launch) {
  const std::span<const int32_t> pages = plan_.pages;
  const std::span<const uint16_t> masks = plan_.masks;
  const AttentionTiles* const sizes[] = {&plan_.few, &plan_.many};
  size_t size_bytes = StagedArrays::Bytes<int32_t>(std::ssize(pages)) +
                      StagedArrays::Bytes<uint16_t>(std::ssize(masks));
  for (const AttentionTiles* size : sizes) {
    size_bytes += StagedArrays::Bytes<QueryTile>(std::ssize(size->tiles));
  }
  SKV_ASSIGN_OR_RETURN(StagedArrays arrays, ring_.Reserve(size_bytes));
  launch.pages = arrays.Put(pages);
  launch.masks = masks.empty() ? nullptr : arrays.Put(masks);
  launch.num_kv_heads = plan_.num_kv_heads;
  launch.states = states();
  AttentionLaunch launches[] = {launch, launch};
  launches[0].size = AttentionTileSize::kFew;
  launches[1].size = AttentionTileSize::kMany;
  for (size_t i = 0; i < 2; ++i) {
    launches[i].tiles = arrays.Put(std::span<const QueryTile>(sizes[i]->tiles));
    launches[i].num_tiles = std::ssize(sizes[i]->tiles);
    launches[i].num_parts = sizes[i]->num_parts;
    launches[i].has_cut_tiles = sizes[i]->has_cut_tiles;
  }
  SKV_RETURN_IF_ERROR(ring_.Send(arrays));
  for (const AttentionLaunch& one : launches) {
    if (one.num_tiles == 0) continue;
    SKV_RETURN_IF_CUDA_ERROR(LaunchAttention(one, streams_.compute()));
  }
  return absl::OkStatus();
}

absl::Status CudaAttention::RunMass(const AttentionMassParams& params) {
  const KvLayout& layout = params.kv.layout;
  const int64_t num_keys = params.first_position + params.num_queries;
  const int64_t num_pages = (num_keys + kPageTokens - 1) / kPageTokens;
  const std::span<const float> queries(
      params.queries, static_cast<size_t>(params.num_queries *
                                          params.num_heads * layout.head_dim));
  const std::span<const int32_t> pages(params.pages,
                                       static_cast<size_t>(num_pages));
  const int64_t workspace_floats = AttentionMassWorkspaceFloats(
      params.num_queries, params.num_heads, num_keys);
  const int64_t out_floats = params.num_heads * num_keys;
  SKV_ASSIGN_OR_RETURN(float* const workspace,
                       mass_.AtLeast<float>(workspace_floats + out_floats));
  float* const out = workspace + workspace_floats;

  SKV_ASSIGN_OR_RETURN(
      StagedArrays arrays,
      ring_.Reserve(StagedArrays::Bytes<float>(std::ssize(queries)) +
                    StagedArrays::Bytes<int32_t>(num_pages)));
  const AttentionMassLaunch launch = {.queries = arrays.Put(queries),
                                      .num_queries = params.num_queries,
                                      .first_position = params.first_position,
                                      .kv = MakePagedKv(params.kv),
                                      .pages = arrays.Put(pages),
                                      .num_heads = params.num_heads,
                                      .scale = params.scale,
                                      .out = out,
                                      .workspace = workspace};
  SKV_RETURN_IF_ERROR(ring_.Send(arrays));
  SKV_RETURN_IF_CUDA_ERROR(LaunchAttentionMass(launch, streams_.compute()));
  return ring_.CopyToHost(reinterpret_cast<std::byte*>(params.out),
                          reinterpret_cast<const std::byte*>(out),
                          static_cast<size_t>(out_floats) * sizeof(float));
}

}  // namespace sentencekv
