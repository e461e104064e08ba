#include "tokenizer/protobuf_wire.h"

#include <bit>

namespace sentencekv {

using Type = ProtobufField::Type;

float ProtobufField::AsFloat() const {
  return std::bit_cast<float>(static_cast<uint32_t>(value));
}

bool ProtobufReader::ReadVarint(uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (rest_.empty()) return false;
    uint8_t byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    *value |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool ProtobufReader::ReadFixed(size_t size, uint64_t* value) {
  if (rest_.size() < size) return false;
  *value = 0;
  for (size_t i = 0; i < size; ++i) {
    *value |= uint64_t{static_cast<uint8_t>(rest_[i])} << (8 * i);
  }
  rest_.remove_prefix(size);
  return true;
}

bool ProtobufReader::ReadValue(ProtobufField* field) {
  switch (field->type) {
    case Type::kVarint:
      return ReadVarint(&field->value);
    case Type::kFixed64:
      return ReadFixed(8, &field->value);
    case Type::kFixed32:
      return ReadFixed(4, &field->value);
    case Type::kBytes:
      if (!ReadVarint(&field->value) || field->value > rest_.size()) {
        return false;
      }
      field->bytes = rest_.substr(0, field->value);
      rest_.remove_prefix(field->value);
      return true;
  }
  return false;  // groups, which no field here uses
}

bool ProtobufReader::Next(ProtobufField* field) {
  if (rest_.empty() || is_broken_) return false;
  *field = {};
  uint64_t tag = 0;
  is_broken_ = !ReadVarint(&tag);
  if (is_broken_) return false;
  field->number = static_cast<uint32_t>(tag >> 3);
  field->type = static_cast<Type>(tag & 7);
  is_broken_ = field->number == 0 || !ReadValue(field);
  return !is_broken_;
}

void ProtobufWriter::WriteVarint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) {
    message_.push_back(static_cast<char>(value | 0x80));
  }
  message_.push_back(static_cast<char>(value));
}

ProtobufWriter& ProtobufWriter::Varint(uint32_t number, uint64_t value) {
  WriteVarint(uint64_t{number} << 3 | static_cast<uint64_t>(Type::kVarint));
  WriteVarint(value);
  return *this;
}

ProtobufWriter& ProtobufWriter::Float(uint32_t number, float value) {
  WriteVarint(uint64_t{number} << 3 | static_cast<uint64_t>(Type::kFixed32));
  uint32_t bits = std::bit_cast<uint32_t>(value);
  for (int i = 0; i < 4; ++i) {
    message_.push_back(static_cast<char>(bits >> (8 * i)));
  }
  return *this;
}

ProtobufWriter& ProtobufWriter::Bytes(uint32_t number, std::string_view value) {
  WriteVarint(uint64_t{number} << 3 | static_cast<uint64_t>(Type::kBytes));
  WriteVarint(value.size());
  message_ += value;
  return *this;
}

}  // namespace sentencekv
