#include "engine/gguf_fields.h"

#include "fmt/format.h"

namespace sentencekv {
namespace {

struct ToFieldValue {
  FieldValue operator()(bool value) const { return value; }
  FieldValue operator()(int64_t value) const { return value; }
  FieldValue operator()(double value) const { return value; }
  FieldValue operator()(std::string_view value) const {
    return std::string(value);
  }
  FieldValue operator()(const GgufArray& value) const {
    return FieldOther{fmt::format("an array of {}", value.count)};
  }
};

}  // namespace

FieldValue GgufFields::Get(std::string_view key) const {
  const GgufValue* value = file_.Find(FullName(key));
  if (value == nullptr) return std::monostate();
  return std::visit(ToFieldValue(), *value);
}

}  // namespace sentencekv
