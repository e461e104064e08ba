// What both sources of a LlamaConfig share: bounds, and checks between fields.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "engine/config_fields.h"
#include "engine/model_config.h"

namespace sentencekv {

// Bounds far beyond any real model, and far from any overflow of products.
inline constexpr int64_t kMaxModelLayers = 1024;
inline constexpr int64_t kMaxModelWidth = 1 << 17;
inline constexpr int64_t kMaxFfnWidth = 1 << 20;
inline constexpr int64_t kMaxHeads = 1024;
inline constexpr int64_t kMaxHeadDim = 256;
// What the attention kernels take.
inline constexpr int64_t kHeadDimMultiple = 8;
inline constexpr int64_t kMaxVocabSize = 1 << 22;
inline constexpr int64_t kMaxContextLength = 1 << 26;
inline constexpr double kMinRopeTheta = 1.001;
inline constexpr double kMaxRopeTheta = 1e15;
inline constexpr double kMaxRopeFactor = 1e6;
inline constexpr double kMaxNormEpsilon = 0.1;

// A size that must be in the description.
struct RequiredSize {
  std::string_view key;
  int64_t LlamaConfig::*member;
  int64_t maximum;
};

// Reads each of `sizes`, in 1..maximum.
absl::Status ReadRequiredSizes(const ConfigFields& fields,
                               std::span<const RequiredSize> sizes,
                               LlamaConfig* config);

// Names of fields under which CheckHeads reports.
struct HeadKeys {
  std::string_view num_heads;
  std::string_view num_kv_heads;
  std::string_view head_dim;
};

// Reads G (default: H) and D (default: M / H), and checks that the heads fit
// together.
absl::Status ReadHeads(const ConfigFields& fields, const HeadKeys& keys,
                       LlamaConfig* config);

// Accepts a sliding window that is absent, 0 or at least the context: it then
// never slides.
absl::Status CheckSlidingWindow(const ConfigFields& fields,
                                std::string_view key, int64_t context_length);

}  // namespace sentencekv
