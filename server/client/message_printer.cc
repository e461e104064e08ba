#include "server/client/message_printer.h"

#include <algorithm>
#include <ostream>

#include "fmt/format.h"
#include "kernels/check.h"

namespace sentencekv {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// A value of a singular field, or of element `index` of a repeated one.
nlohmann::json ValueToJson(const Message& message, const FieldDescriptor* field,
                           int index) {
  const auto* reflection = message.GetReflection();
  const bool repeated = field->is_repeated();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return repeated ? reflection->GetRepeatedInt32(message, field, index)
                      : reflection->GetInt32(message, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return repeated ? reflection->GetRepeatedInt64(message, field, index)
                      : reflection->GetInt64(message, field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return repeated ? reflection->GetRepeatedDouble(message, field, index)
                      : reflection->GetDouble(message, field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return repeated ? reflection->GetRepeatedBool(message, field, index)
                      : reflection->GetBool(message, field);
    case FieldDescriptor::CPPTYPE_STRING:
      return repeated ? reflection->GetRepeatedString(message, field, index)
                      : reflection->GetString(message, field);
    default:
      SKV_CHECK(false && "field type of no flat message");
  }
  return nullptr;
}

nlohmann::json FieldToJson(const Message& message,
                           const FieldDescriptor* field) {
  if (!field->is_repeated()) return ValueToJson(message, field, 0);
  auto array = nlohmann::json::array();
  const int size = message.GetReflection()->FieldSize(message, field);
  for (int i = 0; i < size; ++i) {
    array.push_back(ValueToJson(message, field, i));
  }
  return array;
}

// Text for people: no quotes around strings, no brackets around lists.
std::string ToText(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const auto& element : value) {
    text += (text.empty() ? "" : ", ") + ToText(element);
  }
  return text;
}

}  // namespace

nlohmann::json FlatMessageToJson(const Message& message) {
  nlohmann::json json;
  const auto* descriptor = message.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    json[field->name()] = FieldToJson(message, field);
  }
  return json;
}

void PrintFlatMessage(Terminal& terminal, const Message& message) {
  const auto* descriptor = message.GetDescriptor();
  size_t width = 0;
  for (int i = 0; i < descriptor->field_count(); ++i) {
    width = std::max(width, descriptor->field(i)->name().size());
  }
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    terminal.out << fmt::format("{:{}}  {}\n", field->name(), width,
                                ToText(FieldToJson(message, field)));
  }
  terminal.out << std::flush;
}

}  // namespace sentencekv
