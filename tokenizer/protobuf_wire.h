// Reading and writing the wire format of protocol buffers, as far as
// SentencePiece models need it
// (https://protobuf.dev/programming-guides/encoding).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sentencekv {

// One field of a message.
struct ProtobufField {
  enum class Type : uint8_t {
    kVarint = 0,
    kFixed64 = 1,
    kBytes = 2,
    kFixed32 = 5
  };
  uint32_t number = 0;
  Type type = Type::kVarint;
  uint64_t value = 0;      // of a number, as its bits
  std::string_view bytes;  // of kBytes: a string or a message

  float AsFloat() const;
};

// Goes through the fields of a message. Borrows the bytes; never reads outside.
class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : rest_(message) {}

  // The next field; false at the end, and when the bytes are broken.
  bool Next(ProtobufField* field);
  bool is_broken() const { return is_broken_; }

 private:
  bool ReadVarint(uint64_t* value);
  bool ReadFixed(size_t size, uint64_t* value);
  bool ReadValue(ProtobufField* field);

  std::string_view rest_;
  bool is_broken_ = false;
};

// Appends fields to a message.
class ProtobufWriter {
 public:
  ProtobufWriter& Varint(uint32_t number, uint64_t value);
  ProtobufWriter& Float(uint32_t number, float value);
  ProtobufWriter& Bytes(uint32_t number, std::string_view value);
  const std::string& message() const { return message_; }

 private:
  void WriteVarint(uint64_t value);
  std::string message_;
};

}  // namespace sentencekv
