// Reading members of JSON objects of which nothing is known. Messages name the
// member by its path in the file.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace sentencekv {

// The member, or null when `object` is not an object, has none of that name or
// has JSON's null there.
const nlohmann::json* FindMember(const nlohmann::json& object,
                                 std::string_view key);

// The text of a string member; "" for anything else.
std::string StringMember(const nlohmann::json& object, std::string_view key);

// A flag that may be missing. kInvalidArgument when it is not a boolean.
absl::StatusOr<bool> FlagMember(const nlohmann::json& object,
                                std::string_view key, bool absent,
                                std::string_view path);

// kInvalidArgument "PATH is not supported: VALUE", the value cut where long.
absl::Status UnsupportedValue(std::string_view path,
                              const nlohmann::json& value);

}  // namespace sentencekv
