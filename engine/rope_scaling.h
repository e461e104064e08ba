// Rotary position embedding: how fast each pair of dimensions turns, for plain
// and stretched contexts. RoFormer, https://arxiv.org/abs/2104.09864.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace sentencekv {

enum class RopeScalingType : uint8_t { kNone, kLinear, kLlama3, kYarn };

std::string_view Name(RopeScalingType type);

// How a checkpoint stretches its context; read and bounded by model_config.h.
struct RopeScaling {
  RopeScalingType type = RopeScalingType::kNone;
  double factor = 1;  // how many times longer the context becomes
  int64_t original_context_length = 0;  // tokens; kLlama3 and kYarn
  double low_frequency_factor = 1;      // kLlama3
  double high_frequency_factor = 4;     // kLlama3
  double beta_fast = 32;                // kYarn: turns over the context
  double beta_slow = 1;                 // kYarn
  bool truncate = true;  // kYarn: the ramp begins and ends at whole dimensions
  // kYarn: what cos and sin are multiplied by.
  double magnitude = 1;
};

struct RopeConfig {
  int64_t rotary_dims = 0;  // R, even
  double theta = 10000;
  RopeScaling scaling;
};

// Angle per position of each pair of dimensions, before any per-tensor factors:
//
//   plain    f_i = theta^(-2i/R),                      i = 0..R/2-1
//   linear   f_i / factor         (https://arxiv.org/abs/2306.15595)
//   llama3   wavelength w = 2 pi / f_i, context c:
//              w < c / high_factor   f_i
//              w > c / low_factor    f_i / factor
//              between               (1-s) f_i / factor + s f_i,
//                                    s = (c/w - low) / (high - low)
//            (The Llama 3 Herd of Models, https://arxiv.org/abs/2407.21783, and
//            the reference implementation published with Llama 3.1)
//   yarn     g f_i / factor + (1-g) f_i, where g rises linearly from 0 to 1
//            between the dimensions that turn beta_fast and beta_slow times
//            over the original context c:
//              d(b) = R ln(c / (2 pi b)) / (2 ln theta)
//            (https://arxiv.org/abs/2309.00071, section 3.2)
//
// REQUIRES: values within the bounds of model_config.h. [R/2]
std::vector<float> InverseFrequencies(const RopeConfig& config);

// The attention factor that yarn recommends: 0.1 ln(factor) + 1 (section 3.3 of
// the paper); `scale` is the multiplier of the logarithm's weight ("mscale").
double YarnMagnitude(double factor, double scale = 1);

}  // namespace sentencekv
