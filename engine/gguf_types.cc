#include "engine/gguf_types.h"

#include <cstring>
#include <iterator>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "engine/mapped_file.h"
#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/quoted.h"

namespace sentencekv {
namespace {

struct GgmlType {
  uint32_t number;
  std::string_view name;
  std::optional<SourceType> source;  // nothing: known, but not supported
};

// Numbers of ggml_type in
// https://github.com/ggml-org/ggml/blob/master/include/ggml.h.
constexpr GgmlType kGgmlTypes[] = {
    {0, "F32", SourceType::kF32},    {1, "F16", SourceType::kF16},
    {2, "Q4_0", SourceType::kQ4_0},  {3, "Q4_1", SourceType::kQ4_1},
    {6, "Q5_0", SourceType::kQ5_0},  {7, "Q5_1", SourceType::kQ5_1},
    {8, "Q8_0", SourceType::kQ8_0},  {9, "Q8_1", std::nullopt},
    {10, "Q2_K", std::nullopt},      {11, "Q3_K", std::nullopt},
    {12, "Q4_K", SourceType::kQ4_K}, {13, "Q5_K", SourceType::kQ5_K},
    {14, "Q6_K", SourceType::kQ6_K}, {15, "Q8_K", std::nullopt},
    {16, "IQ2_XXS", std::nullopt},   {17, "IQ2_XS", std::nullopt},
    {18, "IQ3_XXS", std::nullopt},   {19, "IQ1_S", std::nullopt},
    {20, "IQ4_NL", std::nullopt},    {21, "IQ3_S", std::nullopt},
    {22, "IQ2_S", std::nullopt},     {23, "IQ4_XS", std::nullopt},
    {24, "I8", std::nullopt},        {25, "I16", std::nullopt},
    {26, "I32", std::nullopt},       {27, "I64", std::nullopt},
    {28, "F64", std::nullopt},       {29, "IQ1_M", std::nullopt},
    {30, "BF16", SourceType::kBF16}, {34, "TQ1_0", std::nullopt},
    {35, "TQ2_0", std::nullopt},     {39, "MXFP4", std::nullopt},
};

template <typename T>
T Load(std::span<const std::byte> data) {
  SKV_CHECK(data.size() == sizeof(T));
  T value;
  std::memcpy(&value, data.data(), sizeof(T));
  return value;
}

template <typename T>
GgufValue Integer(std::span<const std::byte> data) {
  return GgufValue(static_cast<int64_t>(Load<T>(data)));
}

absl::Status WrongElements(const GgufArray& array, std::string_view wanted) {
  return absl::InvalidArgumentError(
      fmt::format("an array of {} is expected; its element type is {}", wanted,
                  static_cast<uint32_t>(array.element_type)));
}

// The i-th element of an array of numbers or booleans.
std::optional<GgufValue> Element(const GgufArray& array, uint64_t i) {
  const uint64_t size =
      *GgufScalarBytes(static_cast<uint32_t>(array.element_type));
  return DecodeGgufScalar(array.element_type,
                          array.data.subspan(i * size, size));
}

}  // namespace

std::optional<uint64_t> GgufScalarBytes(uint32_t type) {
  switch (static_cast<GgufType>(type)) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return std::nullopt;
}

std::optional<GgufValue> DecodeGgufScalar(GgufType type,
                                          std::span<const std::byte> data) {
  switch (type) {
    case GgufType::kUint8:
      return Integer<uint8_t>(data);
    case GgufType::kInt8:
      return Integer<int8_t>(data);
    case GgufType::kUint16:
      return Integer<uint16_t>(data);
    case GgufType::kInt16:
      return Integer<int16_t>(data);
    case GgufType::kUint32:
      return Integer<uint32_t>(data);
    case GgufType::kInt32:
      return Integer<int32_t>(data);
    case GgufType::kInt64:
      return Integer<int64_t>(data);
    case GgufType::kUint64: {
      const auto value = Load<uint64_t>(data);
      if (value > std::numeric_limits<int64_t>::max()) return std::nullopt;
      return GgufValue(static_cast<int64_t>(value));
    }
    case GgufType::kFloat32:
      return GgufValue(static_cast<double>(Load<float>(data)));
    case GgufType::kFloat64:
      return GgufValue(Load<double>(data));
    case GgufType::kBool: {
      const auto value = Load<uint8_t>(data);
      if (value > 1) return std::nullopt;
      return GgufValue(value == 1);
    }
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return std::nullopt;
}

absl::StatusOr<SourceType> SourceTypeFromGgml(std::string_view tensor_name,
                                              uint32_t ggml_type) {
  std::string name = fmt::format("number {}", ggml_type);
  for (const GgmlType& type : kGgmlTypes) {
    if (type.number != ggml_type) continue;
    if (type.source.has_value()) return *type.source;
    name = type.name;
  }
  return absl::UnimplementedError(fmt::format(
      "tensor type: not supported; tensor {} has {}; supported are F32, F16, "
      "BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K",
      Quoted(tensor_name), name));
}

absl::StatusOr<std::vector<std::string_view>> GgufArray::Strings() const {
  if (element_type != GgufType::kString) return WrongElements(*this, "strings");
  std::vector<std::string_view> strings;
  strings.reserve(count);
  ByteReader reader(data);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t size = 0;
    std::span<const std::byte> text;
    // Cannot fail: the parser has walked over these strings.
    SKV_CHECK(reader.Read(&size) && reader.ReadBytes(size, &text));
    strings.emplace_back(reinterpret_cast<const char*>(text.data()), size);
  }
  return strings;
}

absl::StatusOr<std::vector<int64_t>> GgufArray::Integers() const {
  if (element_type == GgufType::kString)
    return WrongElements(*this, "integers");
  std::vector<int64_t> integers;
  integers.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const std::optional<GgufValue> value = Element(*this, i);
    if (!value.has_value() || !std::holds_alternative<int64_t>(*value)) {
      return WrongElements(*this, "integers");
    }
    integers.push_back(std::get<int64_t>(*value));
  }
  return integers;
}

absl::StatusOr<std::vector<float>> GgufArray::Floats() const {
  if (element_type != GgufType::kFloat32 &&
      element_type != GgufType::kFloat64) {
    return WrongElements(*this, "floats");
  }
  std::vector<float> floats;
  floats.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    floats.push_back(static_cast<float>(std::get<double>(*Element(*this, i))));
  }
  return floats;
}

}  // namespace sentencekv
