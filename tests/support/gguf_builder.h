// Writes GGUF files, right ones and wrong ones: whatever it is told.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"

namespace sentencekv {

// Metadata and tensors in the order of the calls. Numbers that a test wants to
// lie about have setters; Build lays out the rest as the format says.
class GgufBuilder {
 public:
  GgufBuilder& Uint32(std::string_view key, uint32_t value);
  GgufBuilder& Uint64(std::string_view key, uint64_t value);
  GgufBuilder& Float32(std::string_view key, float value);
  GgufBuilder& Bool(std::string_view key, bool value);
  GgufBuilder& Text(std::string_view key, std::string_view value);
  GgufBuilder& Texts(std::string_view key, std::span<const std::string> values);
  GgufBuilder& Floats(std::string_view key, std::span<const float> values);
  GgufBuilder& Int32s(std::string_view key, std::span<const int32_t> values);
  // An entry of any type number with these bytes as its value.
  GgufBuilder& Raw(std::string_view key, uint32_t type, std::string_view bytes);

  // `shape` outermost first.
  GgufBuilder& Tensor(std::string_view name, SourceType type,
                      std::span<const int64_t> shape, std::string_view data);

  // A tensor as the file describes it; tests change it to lie.
  struct TensorEntry {
    std::string name;
    uint32_t ggml_type = 0;
    std::vector<uint64_t> dims;  // innermost first
    uint64_t offset = 0;
    std::string data;
  };
  std::vector<TensorEntry>& tensors() { return tensors_; }

  uint32_t version = 3;
  uint64_t alignment = 32;  // of the layout; metadata says it only if told to
  int64_t extra_tensor_count = 0;    // added to the count in the header
  int64_t extra_metadata_count = 0;  // likewise

  std::string Build() const;

 private:
  GgufBuilder& Entry(std::string_view key, uint32_t type,
                     std::string_view value);

  uint64_t metadata_count_ = 0;
  std::string metadata_;
  std::vector<TensorEntry> tensors_;
  uint64_t next_offset_ = 0;
};

// The number ggml gives a storage type.
uint32_t GgmlTypeNumber(SourceType type);

}  // namespace sentencekv
