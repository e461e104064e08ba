// JSON from files that are not trusted.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace sentencekv {

// Deepest nesting of objects and arrays taken.
inline constexpr int kMaxJsonDepth = 32;

// Parses one JSON object. kDataLoss, beginning with `what` (a file's name),
// when the text is not JSON, not an object, nested too deeply, or has a key
// twice in one object: two readers would then disagree on its meaning.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text,
                                               std::string_view what);

}  // namespace sentencekv
