// The operations on rows of activations: embedding, norm, gate, gathering.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace sentencekv {

// out[t] = table[tokens[t]].
struct EmbedLaunch {
  const void* table = nullptr;      // [V][table_stride] bf16
  int64_t table_stride = 0;         // elements, a multiple of 8
  const int32_t* tokens = nullptr;  // [num_tokens]
  float* out = nullptr;             // [num_tokens, width]
  int64_t num_tokens = 0;
  int64_t width = 0;  // M, at most table_stride
  bool operator==(const EmbedLaunch&) const = default;
};
cudaError_t LaunchEmbed(const EmbedLaunch& launch, cudaStream_t stream);

// out = x / sqrt(mean(x^2) + epsilon) * weight. out may equal x.
struct RmsNormLaunch {
  const float* x = nullptr;       // [num_rows, width]
  const float* weight = nullptr;  // [width]
  float* out = nullptr;           // [num_rows, width]
  int64_t num_rows = 0;
  int64_t width = 0;
  float epsilon = 0;
  bool operator==(const RmsNormLaunch&) const = default;
};
cudaError_t LaunchRmsNorm(const RmsNormLaunch& launch, cudaStream_t stream);

// out[t, i] = silu(gate_up[t, i]) * gate_up[t, width + i].
struct SwiGluLaunch {
  const float* gate_up = nullptr;  // [num_rows, 2 width]
  float* out = nullptr;            // [num_rows, width]
  int64_t num_rows = 0;
  int64_t width = 0;
  bool operator==(const SwiGluLaunch&) const = default;
};
cudaError_t LaunchSwiGlu(const SwiGluLaunch& launch, cudaStream_t stream);

// out[i] = x[rows[i]].
struct GatherRowsLaunch {
  const float* x = nullptr;       // [T, width]
  const int32_t* rows = nullptr;  // [num_rows]
  float* out = nullptr;           // [num_rows, width]
  int64_t num_rows = 0;
  int64_t width = 0;
  bool operator==(const GatherRowsLaunch&) const = default;
};
cudaError_t LaunchGatherRows(const GatherRowsLaunch& launch,
                             cudaStream_t stream);

// out[t, i] = bf16(x[t, i]), rounded to nearest even; columns width and on are
// 0. What the tensor cores multiply.
struct RoundRowsLaunch {
  const float* x = nullptr;  // [num_rows, width]
  void* out = nullptr;       // [num_rows][out_stride] bf16
  int64_t num_rows = 0;
  int64_t width = 0;
  int64_t out_stride = 0;  // elements, a multiple of 8
  bool operator==(const RoundRowsLaunch&) const = default;
};
cudaError_t LaunchRoundRows(const RoundRowsLaunch& launch, cudaStream_t stream);

}  // namespace sentencekv
