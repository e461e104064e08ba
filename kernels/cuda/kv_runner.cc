#include "kernels/cuda/kv_runner.h"

#include <algorithm>
#include <span>

#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/page_kernels.h"
#include "kernels/cuda/rope_kernels.h"
#include "kernels/status_macros.h"

namespace sentencekv {

absl::Status KvRunner::Store(const RopeStoreKvParams& params) {
  const std::span sequences(params.sequences,
                            static_cast<size_t>(params.num_sequences));
  int64_t num_rows = 0;
  for (const KvSequence& sequence : sequences) num_rows += sequence.num_rows;
  const int64_t num_slots = graphs_.Rows(num_rows);
  SKV_ASSIGN_OR_RETURN(
      StagedArrays arrays,
      graphs_.Reserve(StagedArrays::Bytes<RowSlot>(num_slots)));
  const auto slots = arrays.Add<RowSlot>(num_slots);
  RowSlot* slot = slots.host;
  for (const KvSequence& sequence : sequences) {
    for (int64_t i = 0; i < sequence.num_rows; ++i) {
      const int64_t position = sequence.position + i;
      *slot++ = {.row = static_cast<int32_t>(sequence.row_begin + i),
                 .page = sequence.pages[position / kPageTokens],
                 .token = static_cast<int32_t>(position % kPageTokens)};
    }
  }
  std::fill(slot, slots.host + num_slots, RowSlot{.row = -1});
  SKV_RETURN_IF_ERROR(graphs_.Send(arrays));
  return graphs_.Launch("LaunchRopeStore", LaunchRopeStore,
                        {.qkv = params.qkv,
                         .cos_sin = params.cos_sin,
                         .kv = MakePagedKv(params.kv),
                         .slots = slots.device,
                         .num_slots = num_slots,
                         .num_heads = params.num_heads,
                         .rotary_dims = params.rotary_dims,
                         .layout = params.layout});
}

absl::Status KvRunner::ReadKeys(const ReadKeysParams& params) {
  SKV_ASSIGN_OR_RETURN(
      StagedArrays arrays,
      ring_.Reserve(StagedArrays::Bytes<int64_t>(params.num_positions)));
  const auto tokens = arrays.Add<int64_t>(params.num_positions);
  for (int64_t i = 0; i < params.num_positions; ++i) {
    const int64_t position = params.positions[i];
    tokens.host[i] = params.pages[position / kPageTokens] * kPageTokens +
                     position % kPageTokens;
  }
  const int64_t num_floats = params.num_positions * params.kv.layout.head_dim;
  SKV_ASSIGN_OR_RETURN(float* const keys, keys_.AtLeast<float>(num_floats));
  SKV_RETURN_IF_ERROR(ring_.Send(arrays));
  SKV_RETURN_IF_CUDA_ERROR(
      LaunchReadKeys({.kv = MakePagedKv(params.kv),
                      .kv_head = params.kv_head,
                      .tokens = tokens.device,
                      .out = keys,
                      .num_positions = params.num_positions},
                     streams_.compute()));
  return ring_.CopyToHost(reinterpret_cast<std::byte*>(params.out),
                          reinterpret_cast<const std::byte*>(keys),
                          static_cast<size_t>(num_floats) * sizeof(float));
}

absl::Status KvRunner::CopyPages(const CopyPagesParams& params) {
  const auto count = static_cast<size_t>(params.num_pages);
  SKV_ASSIGN_OR_RETURN(
      StagedArrays arrays,
      ring_.Reserve(2 * StagedArrays::Bytes<int32_t>(params.num_pages)));
  const CopyPagesLaunch launch = {
      .pool = static_cast<std::byte*>(params.pool),
      .num_layers = params.layout.num_layers,
      .layer_bytes = params.layout.layer_bytes(),
      .page_bytes = params.layout.page_bytes(),
      .source = arrays.Put(std::span(params.source, count)),
      .destination = arrays.Put(std::span(params.destination, count)),
      .num_pages = params.num_pages};
  SKV_RETURN_IF_ERROR(ring_.Send(arrays));
  SKV_RETURN_IF_CUDA_ERROR(LaunchCopyPages(launch, streams_.compute()));
  return absl::OkStatus();
}

absl::Status KvRunner::CopyRows(const CopyRowsParams& params) {
  return CudaStatus(
      cudaMemcpy2DAsync(
          params.destination, static_cast<size_t>(params.destination_stride),
          params.source, static_cast<size_t>(params.source_stride),
          static_cast<size_t>(params.row_bytes),
          static_cast<size_t>(params.num_rows), cudaMemcpyDeviceToDevice,
          streams_.compute()),
      "cudaMemcpy2DAsync");
}

}  // namespace sentencekv
