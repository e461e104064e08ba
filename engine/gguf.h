// Reader of GGUF, version 3, little endian:
//
//   magic "GGUF", u32 version, u64 tensor count, u64 metadata count
//   metadata   key string, u32 type, value        (string: u64 length, bytes)
//              array: u32 element type, u64 count, elements
//   tensors    name string, u32 dimensions, u64 sizes (innermost first),
//              u32 type, u64 offset into the data section
//   data       from the next multiple of general.alignment (32); each tensor
//              at a multiple of it
//
// Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
// A file is an attacker's until proven otherwise: nothing is allocated, read
// or multiplied by a number of the file before that number was checked, and
// tensors must fill the data section without overlap, gap or trailing bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint_tensor.h"

namespace sentencekv {

// Limits beyond what any real model has.
inline constexpr uint64_t kMaxGgufMetadata = 1 << 16;
inline constexpr uint64_t kMaxGgufTensors = 1 << 16;
inline constexpr uint64_t kMaxGgufKeyBytes = 65535;  // of the specification
inline constexpr uint64_t kMaxGgufTensorNameBytes = 256;
inline constexpr uint64_t kMaxGgufStringBytes = 1 << 24;
inline constexpr uint64_t kMaxGgufArrayCount = 1 << 24;
inline constexpr uint64_t kMaxGgufAlignment = 1 << 20;

enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// An array of numbers, booleans or strings; never of arrays. The elements stay
// in the file and are decoded on demand.
struct GgufArray {
  GgufType element_type = GgufType::kUint8;
  uint64_t count = 0;
  std::span<const std::byte> data;  // checked to hold `count` elements

  // kInvalidArgument when the elements are of another kind; integers of any
  // width are widened, floats rounded to f32.
  absl::StatusOr<std::vector<std::string_view>> Strings() const;
  absl::StatusOr<std::vector<int64_t>> Integers() const;
  absl::StatusOr<std::vector<float>> Floats() const;
};

// Integers are widened to 64 bits, floats to double; strings and arrays borrow
// from the file. A u64 above int64's range is refused when read.
using GgufValue =
    std::variant<bool, int64_t, double, std::string_view, GgufArray>;

// What a GGUF file contains; borrows from the bytes it was parsed from.
class GgufFile {
 public:
  // kDataLoss for a file that is cut, too long, overlapping or inconsistent;
  // kUnimplemented for versions, byte orders and tensor types not supported.
  static absl::StatusOr<GgufFile> Parse(std::span<const std::byte> bytes);

  // Null when there is no such key.
  const GgufValue* Find(std::string_view key) const;
  // In the order of the file.
  const std::vector<std::pair<std::string_view, GgufValue>>& metadata() const {
    return metadata_;
  }
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }

 private:
  friend class GgufParser;

  std::vector<std::pair<std::string_view, GgufValue>> metadata_;
  std::map<std::string_view, size_t> index_;  // key to place in metadata_
  std::vector<CheckpointTensor> tensors_;
};

}  // namespace sentencekv
