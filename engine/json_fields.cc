#include "engine/json_fields.h"

#include <limits>

#include "fmt/format.h"

namespace sentencekv {

FieldValue JsonFields::Get(std::string_view key) const {
  const auto found = object_.find(key);
  if (found == object_.end() || found->is_null()) return std::monostate();
  if (found->is_boolean()) return found->get<bool>();
  if (found->is_number_unsigned()) {
    const auto value = found->get<uint64_t>();
    if (value > std::numeric_limits<int64_t>::max()) {
      return FieldOther{fmt::format("{}", value)};
    }
    return static_cast<int64_t>(value);
  }
  if (found->is_number_integer()) return found->get<int64_t>();
  if (found->is_number_float()) return found->get<double>();
  if (found->is_string()) return found->get_ref<const std::string&>();
  return FieldOther{found->is_array()
                        ? fmt::format("an array of {}", found->size())
                        : "an object"};
}

}  // namespace sentencekv
