// Named fields of a model description, wherever they are written: GGUF
// metadata or a config.json. Every getter checks kind and range and names the
// field and its value when it refuses.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sentencekv {

// A field's value. monostate: not there, or JSON null. FieldOther: of a kind
// that no getter takes (an array, an object), with a text for messages.
struct FieldOther {
  std::string text;
};
using FieldValue = std::variant<std::monostate, bool, int64_t, double,
                                std::string, FieldOther>;

// "8192", "'silu'", "an array of 30".
std::string FieldText(const FieldValue& value);

class ConfigFields {
 public:
  virtual ~ConfigFields() = default;

  virtual FieldValue Get(std::string_view key) const = 0;
  // The whole name of a field, as messages show it.
  virtual std::string FullName(std::string_view key) const {
    return std::string(key);
  }

  bool Has(std::string_view key) const {
    return !std::holds_alternative<std::monostate>(Get(key));
  }

  // The value, or nothing when the field is not there. kDataLoss when it is of
  // another kind or outside [minimum, maximum]; a NaN is outside every range.
  absl::StatusOr<std::optional<int64_t>> Integer(std::string_view key,
                                                 int64_t minimum,
                                                 int64_t maximum) const;
  absl::StatusOr<std::optional<double>> Number(std::string_view key,
                                               double minimum,
                                               double maximum) const;
  absl::StatusOr<std::optional<bool>> Boolean(std::string_view key) const;
  absl::StatusOr<std::optional<std::string>> Text(std::string_view key) const;

  // The same, where the field must be there: kDataLoss names it.
  absl::StatusOr<int64_t> RequiredInteger(std::string_view key, int64_t minimum,
                                          int64_t maximum) const;

  // kUnimplemented naming field and value, and what is supported instead.
  absl::Status Unsupported(std::string_view key,
                           std::string_view supported) const;

 private:
  absl::Status Wrong(std::string_view key, std::string_view wanted) const;
};

}  // namespace sentencekv
