// What a step submits to the device, with every argument but what lies in host
// memory: what a graph was captured from, and what is compared with it. A
// pointer that has moved or a size that has grown shows here and nowhere else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <variant>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/choose_kernels.h"
#include "kernels/cuda/gather_kernels.h"
#include "kernels/cuda/rope_kernels.h"
#include "kernels/cuda/row_kernels.h"
#include "kernels/device_stream.h"

namespace sentencekv {

// launch(params, stream).
template <typename Params>
struct KernelCall {
  cudaError_t (*launch)(const Params&, cudaStream_t) = nullptr;
  Params params;
  DeviceStream stream = DeviceStream::kCompute;
  bool operator==(const KernelCall&) const = default;
};

// A product of cuBLASLt. The algorithm depends on nothing else.
struct ProductCall {
  const void* weight = nullptr;  // [rows, cols]
  int64_t rows = 0;
  int64_t cols = 0;
  const void* x = nullptr;  // rounded
  const float* bias = nullptr;
  float* out = nullptr;
  int64_t num_rows = 0;
  bool accumulate = false;
  const std::byte* scratch = nullptr;
  bool operator==(const ProductCall&) const = default;
};

// Zeros.
struct FillCall {
  std::byte* to = nullptr;
  size_t size_bytes = 0;
  bool operator==(const FillCall&) const = default;
};

// To pinned memory.
struct CopyToHostCall {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  size_t size_bytes = 0;
  bool operator==(const CopyToHostCall&) const = default;
};

// What comes next in `second` begins when what `first` was given is done.
struct OrderCall {
  DeviceStream first = DeviceStream::kCompute;
  DeviceStream second = DeviceStream::kCompute;
  bool operator==(const OrderCall&) const = default;
};

using StepCall =
    std::variant<KernelCall<EmbedLaunch>, KernelCall<RmsNormLaunch>,
                 KernelCall<SwiGluLaunch>, KernelCall<GatherRowsLaunch>,
                 KernelCall<RoundRowsLaunch>, KernelCall<RopeTableLaunch>,
                 KernelCall<RopeStoreLaunch>, KernelCall<ChooseLaunch>,
                 KernelCall<GatherRunsLaunch>, KernelCall<AttentionLaunch>,
                 ProductCall, FillCall, CopyToHostCall, OrderCall>;

}  // namespace sentencekv
