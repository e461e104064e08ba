#include "engine/model_config_checks.h"

#include <limits>

#include "fmt/format.h"
#include "kernels/status_macros.h"

namespace sentencekv {

absl::Status ReadRequiredSizes(const ConfigFields& fields,
                               std::span<const RequiredSize> sizes,
                               LlamaConfig* config) {
  for (const RequiredSize& size : sizes) {
    SKV_ASSIGN_OR_RETURN(config->*size.member,
                         fields.RequiredInteger(size.key, 1, size.maximum));
  }
  return absl::OkStatus();
}

absl::Status ReadHeads(const ConfigFields& fields, const HeadKeys& keys,
                       LlamaConfig* config) {
  SKV_ASSIGN_OR_RETURN(const std::optional<int64_t> num_kv_heads,
                       fields.Integer(keys.num_kv_heads, 1, kMaxHeads));
  config->num_kv_heads = num_kv_heads.value_or(config->num_heads);
  if (config->num_heads % config->num_kv_heads != 0) {
    return absl::DataLossError(fmt::format(
        "{}: must divide {} = {}, got {}", fields.FullName(keys.num_kv_heads),
        fields.FullName(keys.num_heads), config->num_heads,
        config->num_kv_heads));
  }
  SKV_ASSIGN_OR_RETURN(const std::optional<int64_t> head_dim,
                       fields.Integer(keys.head_dim, 1, kMaxHeadDim));
  if (!head_dim.has_value() && config->width % config->num_heads != 0) {
    return absl::DataLossError(fmt::format(
        "{}: must divide the model's width {}, got {}",
        fields.FullName(keys.num_heads), config->width, config->num_heads));
  }
  config->head_dim = head_dim.value_or(config->width / config->num_heads);
  if (config->head_dim % kHeadDimMultiple != 0 ||
      config->head_dim > kMaxHeadDim) {
    return absl::UnimplementedError(
        fmt::format("{}: only multiples of {} up to {} are supported, got {}",
                    fields.FullName(keys.head_dim), kHeadDimMultiple,
                    kMaxHeadDim, config->head_dim));
  }
  return absl::OkStatus();
}

absl::Status CheckSlidingWindow(const ConfigFields& fields,
                                std::string_view key, int64_t context_length) {
  SKV_ASSIGN_OR_RETURN(
      const std::optional<int64_t> window,
      fields.Integer(key, 0, std::numeric_limits<int64_t>::max()));
  if (!window.has_value() || *window == 0 || *window >= context_length) {
    return absl::OkStatus();
  }
  return fields.Unsupported(
      key, fmt::format("none, or at least the context of {}", context_length));
}

}  // namespace sentencekv
