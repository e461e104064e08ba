// Any bytes as a safetensors file, and as the index of one in shards.
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/safetensors.h"
#include "kernels/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sentencekv;
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto tensors = ParseSafetensors(bytes, "file");
  if (tensors.ok()) {
    size_t total = 0;
    for (const CheckpointTensor& tensor : *tensors) {
      SKV_CHECK(tensor.data.data() >= bytes.data());
      SKV_CHECK(tensor.data.data() + tensor.data.size() <=
                bytes.data() + bytes.size());
      SKV_CHECK(static_cast<int64_t>(tensor.data.size()) ==
                tensor.num_elements() * BlockBytes(tensor.type));
      total += tensor.data.size();
    }
    SKV_CHECK(total <= size);  // no byte belongs to two
  }
  const auto index = ParseSafetensorsIndex(
      std::string_view(reinterpret_cast<const char*>(data), size));
  if (index.ok()) {
    for (const auto& [name, file] : *index) {
      SKV_CHECK(file.find('/') == std::string::npos && file != "..");
    }
  }
  return 0;
}
