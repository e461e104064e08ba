// The small pieces that the readers of model files stand on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "engine/checked_math.h"
#include "engine/mapped_file.h"
#include "kernels/quoted.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"
#include "tokenizer/strict_json.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(CheckedMath, GivesNothingWhereItWouldWrap) {
  EXPECT_EQ(CheckedAdd(kMax - 1, 1), kMax);
  EXPECT_EQ(CheckedAdd(kMax, 1), std::nullopt);
  EXPECT_EQ(CheckedMultiply(1ull << 32, (1ull << 32) - 1), kMax - 0xffffffff);
  EXPECT_EQ(CheckedMultiply(1ull << 32, 1ull << 32), std::nullopt);
  EXPECT_EQ(CheckedMultiply(kMax, 0), 0);
  EXPECT_EQ(CheckedAlignUp(0, 32), 0);
  EXPECT_EQ(CheckedAlignUp(1, 32), 32);
  EXPECT_EQ(CheckedAlignUp(32, 32), 32);
  EXPECT_EQ(CheckedAlignUp(kMax - 5, 32), std::nullopt);
}

TEST(Quoted, MakesAnyBytesPrintableAndShort) {
  EXPECT_EQ(Quoted("plain text"), "'plain text'");
  EXPECT_EQ(Quoted(std::string("a\0\n\x7f\xff", 5)), "'a\\x00\\x0a\\x7f\\xff'");
  EXPECT_EQ(Quoted("12345", 3), "'123...'");
  EXPECT_EQ(Quoted(""), "''");
}

TEST(ByteReader, NeverLeavesItsBytes) {
  const std::vector<uint8_t> bytes = {1, 2, 3, 4, 5};
  ByteReader reader(std::as_bytes(std::span(bytes)));
  uint32_t four = 0;
  uint16_t two = 0;
  uint8_t one = 0;
  std::span<const std::byte> span;
  ASSERT_TRUE(reader.Read(&four));
  EXPECT_EQ(four, 0x04030201u);
  EXPECT_FALSE(reader.Read(&two));
  EXPECT_EQ(reader.position(), 4u);
  EXPECT_FALSE(reader.ReadBytes(kMax, &span));
  EXPECT_FALSE(reader.ReadBytes(2, &span));
  ASSERT_TRUE(reader.ReadBytes(1, &span));
  EXPECT_EQ(std::to_integer<int>(span[0]), 5);
  EXPECT_FALSE(reader.Read(&one));
  EXPECT_TRUE(reader.ReadBytes(0, &span));
}

TEST(MappedFile, ShowsTheBytesOfAFile) {
  const std::string path = MakeTempDir() + "/file";
  WriteFile(path, "hello");
  auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->text(), "hello");
  const MappedFile moved = *std::move(file);
  EXPECT_EQ(moved.text(), "hello");
  WriteFile(path + "2", "");
  EXPECT_EQ(MappedFile::Open(path + "2")->bytes().size(), 0u);
}

TEST(MappedFile, RefusesWhatIsNotAFile) {
  const std::string folder = MakeTempDir();
  EXPECT_EQ(MappedFile::Open(folder + "/none").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(MappedFile::Open(folder).status().code(),
            absl::StatusCode::kInvalidArgument);
  // A pipe without a writer would block an ordinary open for ever.
  ASSERT_EQ(mkfifo((folder + "/pipe").c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::Open(folder + "/pipe").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(StrictJson, TakesObjectsOnly) {
  const auto json = ParseJsonObject(R"({"a": [1, {"b": "]}"}]})", "x.json");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->at("a").at(0), 1);
  // Equal keys of different objects are no duplicates.
  EXPECT_TRUE(
      ParseJsonObject(R"({"a": {"b": 1}, "c": {"b": 1, "a": 2}})", "x").ok());
}

TEST(StrictJson, RefusesByName) {
  const std::string shallow(kMaxJsonDepth - 1, '['), deep(100000, '[');
  const struct {
    std::string text;
    const char* message;
  } cases[] = {
      {"", "x.json: not JSON"},
      {"[1]", "x.json: not a JSON object"},
      {"{\"a\": 1} trailing", "x.json: not JSON"},
      {R"({"a": 1, "b": {"c": 1, "c": 2}})", "x.json: key 'c' occurs twice"},
      {"{\"a\": \"\xff\"}", "x.json: not JSON"},
      {"{\"a\": " + deep, "x.json: nested deeper than 32"},
      {"{\"a\": " + shallow + std::string(kMaxJsonDepth - 1, ']'), "not JSON"},
  };
  for (const auto& c : cases) {
    const absl::Status status = ParseJsonObject(c.text, "x.json").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
  EXPECT_TRUE(ParseJsonObject("{\"a\": " + shallow +
                                  std::string(kMaxJsonDepth - 1, ']') + "}",
                              "x.json")
                  .ok());
}

}  // namespace
}  // namespace sentencekv
