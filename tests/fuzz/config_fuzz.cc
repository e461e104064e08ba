// Any text as a config.json; what is accepted must be a network whose sizes
// and frequencies are sane.
#include <cmath>
#include <cstdint>
#include <string_view>

#include "engine/model_config.h"
#include "kernels/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sentencekv;
  const auto config = LlamaConfigFromJson(
      std::string_view(reinterpret_cast<const char*>(data), size));
  if (!config.ok()) return 0;
  SKV_CHECK(config->num_layers >= 1 && config->width >= 1);
  SKV_CHECK(config->num_heads % config->num_kv_heads == 0);
  SKV_CHECK(config->head_dim % 8 == 0);
  for (const float frequency : InverseFrequencies(config->rope)) {
    SKV_CHECK(std::isfinite(frequency) && frequency >= 0 && frequency <= 1);
  }
  SKV_CHECK(std::isfinite(config->rope.scaling.magnitude));
  SKV_CHECK(config->rope.scaling.magnitude > 0);
  return 0;
}
