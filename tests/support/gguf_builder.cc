#include "tests/support/gguf_builder.h"

#include <cstdlib>

namespace sentencekv {
namespace {

template <typename T>
void Append(std::string* bytes, T value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendText(std::string* bytes, std::string_view text) {
  Append<uint64_t>(bytes, text.size());
  bytes->append(text);
}

template <typename T>
std::string ArrayBytes(uint32_t element_type, std::span<const T> values) {
  std::string bytes;
  Append<uint32_t>(&bytes, element_type);
  Append<uint64_t>(&bytes, values.size());
  for (const T& value : values) Append(&bytes, value);
  return bytes;
}

template <typename T>
std::string Bytes(T value) {
  std::string bytes;
  Append(&bytes, value);
  return bytes;
}

}  // namespace

uint32_t GgmlTypeNumber(SourceType type) {
  switch (type) {
    case SourceType::kF32:
      return 0;
    case SourceType::kF16:
      return 1;
    case SourceType::kQ4_0:
      return 2;
    case SourceType::kQ4_1:
      return 3;
    case SourceType::kQ5_0:
      return 6;
    case SourceType::kQ5_1:
      return 7;
    case SourceType::kQ8_0:
      return 8;
    case SourceType::kQ4_K:
      return 12;
    case SourceType::kQ5_K:
      return 13;
    case SourceType::kQ6_K:
      return 14;
    case SourceType::kBF16:
      return 30;
  }
  std::abort();
}

GgufBuilder& GgufBuilder::Entry(std::string_view key, uint32_t type,
                                std::string_view value) {
  AppendText(&metadata_, key);
  Append<uint32_t>(&metadata_, type);
  metadata_.append(value);
  ++metadata_count_;
  return *this;
}

GgufBuilder& GgufBuilder::Uint32(std::string_view key, uint32_t value) {
  return Entry(key, 4, Bytes(value));
}
GgufBuilder& GgufBuilder::Uint64(std::string_view key, uint64_t value) {
  return Entry(key, 10, Bytes(value));
}
GgufBuilder& GgufBuilder::Float32(std::string_view key, float value) {
  return Entry(key, 6, Bytes(value));
}
GgufBuilder& GgufBuilder::Bool(std::string_view key, bool value) {
  return Entry(key, 7, Bytes<uint8_t>(value ? 1 : 0));
}
GgufBuilder& GgufBuilder::Text(std::string_view key, std::string_view value) {
  std::string bytes;
  AppendText(&bytes, value);
  return Entry(key, 8, bytes);
}
GgufBuilder& GgufBuilder::Texts(std::string_view key,
                                std::span<const std::string> values) {
  std::string bytes;
  Append<uint32_t>(&bytes, 8);
  Append<uint64_t>(&bytes, values.size());
  for (const std::string& value : values) AppendText(&bytes, value);
  return Entry(key, 9, bytes);
}
GgufBuilder& GgufBuilder::Floats(std::string_view key,
                                 std::span<const float> values) {
  return Entry(key, 9, ArrayBytes(6, values));
}
GgufBuilder& GgufBuilder::Int32s(std::string_view key,
                                 std::span<const int32_t> values) {
  return Entry(key, 9, ArrayBytes(5, values));
}
GgufBuilder& GgufBuilder::Raw(std::string_view key, uint32_t type,
                              std::string_view bytes) {
  return Entry(key, type, bytes);
}

GgufBuilder& GgufBuilder::Tensor(std::string_view name, SourceType type,
                                 std::span<const int64_t> shape,
                                 std::string_view data) {
  TensorEntry entry;
  entry.name = std::string(name);
  entry.ggml_type = GgmlTypeNumber(type);
  entry.dims.assign(shape.rbegin(), shape.rend());
  entry.offset = next_offset_;
  entry.data = std::string(data);
  next_offset_ =
      (next_offset_ + data.size() + alignment - 1) / alignment * alignment;
  tensors_.push_back(std::move(entry));
  return *this;
}

std::string GgufBuilder::Build() const {
  std::string file = "GGUF";
  Append<uint32_t>(&file, version);
  Append<uint64_t>(&file,
                   tensors_.size() + static_cast<uint64_t>(extra_tensor_count));
  Append<uint64_t>(
      &file, metadata_count_ + static_cast<uint64_t>(extra_metadata_count));
  file += metadata_;
  for (const TensorEntry& tensor : tensors_) {
    AppendText(&file, tensor.name);
    Append<uint32_t>(&file, static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t size : tensor.dims) Append(&file, size);
    Append<uint32_t>(&file, tensor.ggml_type);
    Append<uint64_t>(&file, tensor.offset);
  }
  const auto pad = [&file, this] {
    file.resize((file.size() + alignment - 1) / alignment * alignment);
  };
  if (!tensors_.empty()) pad();
  for (const TensorEntry& tensor : tensors_) {
    file += tensor.data;
    pad();
  }
  return file;
}

}  // namespace sentencekv
