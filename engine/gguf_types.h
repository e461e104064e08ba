// The two type systems of GGUF: metadata values and tensor storage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/gguf.h"
#include "kernels/dtype.h"

namespace sentencekv {

// Bytes of a number or boolean; nothing for strings, arrays and unknown types.
std::optional<uint64_t> GgufScalarBytes(uint32_t type);

// Decodes a number or boolean from exactly its bytes. Nothing for a boolean
// that is neither 0 nor 1, and for a u64 beyond int64.
std::optional<GgufValue> DecodeGgufScalar(GgufType type,
                                          std::span<const std::byte> data);

// The source type of a ggml tensor type number. kUnimplemented, naming the
// tensor and the type, when it is a type not supported here.
absl::StatusOr<SourceType> SourceTypeFromGgml(std::string_view tensor_name,
                                              uint32_t ggml_type);

}  // namespace sentencekv
