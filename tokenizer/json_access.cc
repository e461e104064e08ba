#include "tokenizer/json_access.h"

#include <fmt/format.h>

#include "kernels/quoted.h"

namespace sentencekv {

using Json = nlohmann::json;

const Json* FindMember(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  auto found = object.find(key);
  if (found == object.end() || found->is_null()) return nullptr;
  return &*found;
}

std::string StringMember(const Json& object, std::string_view key) {
  const Json* member = FindMember(object, key);
  if (member == nullptr || !member->is_string()) return "";
  return member->get<std::string>();
}

absl::StatusOr<bool> FlagMember(const Json& object, std::string_view key,
                                bool absent, std::string_view path) {
  const Json* member = FindMember(object, key);
  if (member == nullptr) return absent;
  if (member->is_boolean()) return member->get<bool>();
  return absl::InvalidArgumentError(
      fmt::format("{}.{} is not true or false", path, key));
}

absl::Status UnsupportedValue(std::string_view path, const Json& value) {
  std::string text;
  if (value.is_string()) {
    text = Quoted(value.get_ref<const std::string&>());
  } else if (value.is_primitive()) {
    text = value.dump();
  } else {
    std::string type = StringMember(value, "type");
    text = type.empty() ? std::string("an ") + value.type_name()
                        : fmt::format("type {}", Quoted(type));
  }
  return absl::InvalidArgumentError(
      fmt::format("{} is not supported: {}", path, text));
}

}  // namespace sentencekv
