#include "engine/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/check.h"

namespace sentencekv {
namespace {

double Llama3Frequency(double frequency, const RopeScaling& scaling) {
  const auto context = static_cast<double>(scaling.original_context_length);
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < context / scaling.high_frequency_factor) return frequency;
  if (wavelength > context / scaling.low_frequency_factor) {
    return frequency / scaling.factor;
  }
  const double smooth =
      (context / wavelength - scaling.low_frequency_factor) /
      (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

// The pair index whose dimensions turn `turns` times over the original context.
double YarnDimension(double turns, const RopeConfig& config) {
  const auto context =
      static_cast<double>(config.scaling.original_context_length);
  return static_cast<double>(config.rotary_dims) *
         std::log(context / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(config.theta));
}

// Ends of yarn's ramp, in pair indices.
struct YarnRamp {
  double low = 0;
  double high = 0;

  // Share of the interpolated frequency at pair i.
  double At(int64_t i) const {
    const double position = (static_cast<double>(i) - low) / (high - low);
    return std::clamp(position, 0.0, 1.0);
  }
};

YarnRamp MakeYarnRamp(const RopeConfig& config) {
  YarnRamp ramp{YarnDimension(config.scaling.beta_fast, config),
                YarnDimension(config.scaling.beta_slow, config)};
  if (config.scaling.truncate) {
    ramp = {std::floor(ramp.low), std::ceil(ramp.high)};
  }
  ramp.low = std::max(ramp.low, 0.0);
  ramp.high = std::min(ramp.high, static_cast<double>(config.rotary_dims - 1));
  // As the published implementations do, where the ramp has no width.
  if (ramp.high - ramp.low < 0.001) ramp.high = ramp.low + 0.001;
  return ramp;
}

}  // namespace

std::string_view Name(RopeScalingType type) {
  switch (type) {
    case RopeScalingType::kNone:
      return "none";
    case RopeScalingType::kLinear:
      return "linear";
    case RopeScalingType::kLlama3:
      return "llama3";
    case RopeScalingType::kYarn:
      return "yarn";
  }
  return "unknown";
}

std::vector<float> InverseFrequencies(const RopeConfig& config) {
  SKV_CHECK(config.rotary_dims > 0 && config.rotary_dims % 2 == 0);
  const RopeScaling& scaling = config.scaling;
  YarnRamp ramp;
  if (scaling.type == RopeScalingType::kYarn) ramp = MakeYarnRamp(config);
  std::vector<float> frequencies;
  for (int64_t i = 0; i < config.rotary_dims / 2; ++i) {
    double frequency =
        std::pow(config.theta, -2.0 * static_cast<double>(i) /
                                   static_cast<double>(config.rotary_dims));
    switch (scaling.type) {
      case RopeScalingType::kNone:
        break;
      case RopeScalingType::kLinear:
        frequency /= scaling.factor;
        break;
      case RopeScalingType::kLlama3:
        frequency = Llama3Frequency(frequency, scaling);
        break;
      case RopeScalingType::kYarn:
        frequency = ramp.At(i) * frequency / scaling.factor +
                    (1 - ramp.At(i)) * frequency;
        break;
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

double YarnMagnitude(double factor, double scale) {
  return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1;
}

}  // namespace sentencekv
