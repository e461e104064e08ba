#include "engine/config_fields.h"

#include "fmt/format.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

struct TextOf {
  std::string operator()(std::monostate) const { return "nothing"; }
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(int64_t value) const {
    return fmt::format("{}", value);
  }
  std::string operator()(double value) const {
    return fmt::format("{}", value);
  }
  std::string operator()(const std::string& value) const {
    return Quoted(value);
  }
  std::string operator()(const FieldOther& value) const { return value.text; }
};

}  // namespace

std::string FieldText(const FieldValue& value) {
  return std::visit(TextOf(), value);
}

absl::Status ConfigFields::Wrong(std::string_view key,
                                 std::string_view wanted) const {
  return absl::DataLossError(fmt::format(
      "{}: expected {}, got {}", FullName(key), wanted, FieldText(Get(key))));
}

absl::Status ConfigFields::Unsupported(std::string_view key,
                                       std::string_view supported) const {
  return absl::UnimplementedError(
      fmt::format("{}: not supported, only {}; got {}", FullName(key),
                  supported, FieldText(Get(key))));
}

absl::StatusOr<std::optional<int64_t>> ConfigFields::Integer(
    std::string_view key, int64_t minimum, int64_t maximum) const {
  const FieldValue value = Get(key);
  if (std::holds_alternative<std::monostate>(value)) return std::nullopt;
  const int64_t* number = std::get_if<int64_t>(&value);
  if (number == nullptr || *number < minimum || *number > maximum) {
    return Wrong(key, fmt::format("an integer in {}..{}", minimum, maximum));
  }
  return *number;
}

absl::StatusOr<std::optional<double>> ConfigFields::Number(
    std::string_view key, double minimum, double maximum) const {
  const FieldValue value = Get(key);
  double number = 0;
  if (std::holds_alternative<std::monostate>(value)) return std::nullopt;
  if (const double* real = std::get_if<double>(&value)) {
    number = *real;
  } else if (const int64_t* integer = std::get_if<int64_t>(&value)) {
    number = static_cast<double>(*integer);
  } else {
    return Wrong(key, "a number");
  }
  // Written so that a NaN fails.
  if (!(number >= minimum && number <= maximum)) {
    return Wrong(key, fmt::format("a number in {}..{}", minimum, maximum));
  }
  return number;
}

absl::StatusOr<std::optional<bool>> ConfigFields::Boolean(
    std::string_view key) const {
  const FieldValue value = Get(key);
  if (std::holds_alternative<std::monostate>(value)) return std::nullopt;
  const bool* boolean = std::get_if<bool>(&value);
  if (boolean == nullptr) return Wrong(key, "true or false");
  return *boolean;
}

absl::StatusOr<std::optional<std::string>> ConfigFields::Text(
    std::string_view key) const {
  const FieldValue value = Get(key);
  if (std::holds_alternative<std::monostate>(value)) return std::nullopt;
  const std::string* text = std::get_if<std::string>(&value);
  if (text == nullptr) return Wrong(key, "a text");
  return *text;
}

absl::StatusOr<int64_t> ConfigFields::RequiredInteger(std::string_view key,
                                                      int64_t minimum,
                                                      int64_t maximum) const {
  SKV_ASSIGN_OR_RETURN(const std::optional<int64_t> value,
                       Integer(key, minimum, maximum));
  if (!value.has_value()) {
    return absl::DataLossError(fmt::format("{}: missing", FullName(key)));
  }
  return *value;
}

}  // namespace sentencekv
