#include "tokenizer/protobuf_wire.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "tests/tokenizer/tiny_vocabularies.h"

namespace sentencekv {
namespace {

using Type = ProtobufField::Type;

TEST(ProtobufWire, ReadsWhatItWrites) {
  ProtobufWriter writer;
  writer.Varint(1, 0)
      .Varint(15, 300)
      .Varint(16, std::numeric_limits<uint64_t>::max())
      .Float(35, -1.5f)
      .Bytes(44, "abc")
      .Bytes(2, "");

  ProtobufReader reader(writer.message());
  ProtobufField field;
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_EQ(field.number, 1u);
  EXPECT_EQ(field.value, 0u);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_EQ(field.number, 15u);
  EXPECT_EQ(field.value, 300u);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_EQ(field.number, 16u);
  EXPECT_EQ(field.value, std::numeric_limits<uint64_t>::max());
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_EQ(field.number, 35u);
  EXPECT_EQ(field.type, Type::kFixed32);
  EXPECT_EQ(field.AsFloat(), -1.5f);
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_EQ(field.bytes, "abc");
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_EQ(field.type, Type::kBytes);
  EXPECT_EQ(field.bytes, "");
  EXPECT_FALSE(reader.Next(&field));
  EXPECT_FALSE(reader.is_broken());
}

TEST(ProtobufWire, ReadsEightByteNumbers) {
  ProtobufReader reader("\x09\x01\x02\x03\x04\x05\x06\x07\x08");
  ProtobufField field;
  ASSERT_TRUE(reader.Next(&field));
  EXPECT_EQ(field.value, 0x0807060504030201u);
}

TEST(ProtobufWire, NoticesBrokenMessages) {
  using namespace std::string_view_literals;
  for (std::string_view bytes :
       {"\x08"sv,                                              // no value
        "\x80"sv,                                              // half a tag
        "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"sv,  // 11 bytes
        "\x0D\x01\x02\x03"sv,                                  // 3 of 4 bytes
        "\x09\x01\x02\x03"sv,                                  // 3 of 8 bytes
        "\x0A\x05"
        "abc"sv,                                           // 3 of 5 bytes
        "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"sv,  // 2^64 - 1 bytes
        "\x0B"sv, "\x0C"sv,                                // groups
        "\x0E"sv, "\x0F"sv,                                // no such types
        "\x00\x00"sv}) {                                   // field 0
    ProtobufReader reader(bytes);
    ProtobufField field;
    EXPECT_FALSE(reader.Next(&field));
    EXPECT_TRUE(reader.is_broken());
    EXPECT_FALSE(reader.Next(&field));
  }
}

TEST(ProtobufWire, EndsOnAnyBytes) {
  std::mt19937 random(23);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = RandomBytes(random, random() % 60);
    ProtobufReader reader(bytes);
    size_t num_fields = 0;
    for (ProtobufField field; reader.Next(&field);) {
      ++num_fields;
      if (field.type != Type::kBytes) continue;
      ASSERT_LE(field.bytes.size(), bytes.size());
    }
    ASSERT_LE(num_fields, bytes.size());
  }
}

}  // namespace
}  // namespace sentencekv
