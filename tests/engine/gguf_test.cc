#include "engine/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/gguf_builder.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tensors.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

absl::StatusOr<GgufFile> Parse(const std::string& file) {
  return GgufFile::Parse(Bytes(file));
}

GgufBuilder TwoTensors() {
  const std::vector<int64_t> shape = {2, 4};
  GgufBuilder builder;
  builder.Text("general.architecture", "llama");
  builder.Tensor("a", SourceType::kF32, shape, std::string(32, 'a'));
  builder.Tensor("b", SourceType::kF16, shape, std::string(16, 'b'));
  return builder;
}

TEST(GgufFile, ReadsEveryKindOfMetadata) {
  GgufBuilder builder;
  const std::vector<std::string> texts = {"", "two", std::string("\0x", 2)};
  const std::vector<float> floats = {0.5f, -2};
  const std::vector<int32_t> integers = {-1, 7};
  builder.Uint32("u32", 4000000000u)
      .Uint64("u64", 1ull << 62)
      .Float32("f32", 0.25f)
      .Bool("bool", true)
      .Text("text", "hello")
      .Texts("texts", texts)
      .Floats("floats", floats)
      .Int32s("integers", integers)
      .Raw("i8", 1, "\xff")
      .Raw("i16", 3, std::string("\xfe\xff", 2));
  const std::string bytes = builder.Build();

  const auto file = Parse(bytes);

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata().size(), 10u);
  EXPECT_EQ(std::get<int64_t>(*file->Find("u32")), 4000000000);
  EXPECT_EQ(std::get<int64_t>(*file->Find("u64")), int64_t{1} << 62);
  EXPECT_EQ(std::get<double>(*file->Find("f32")), 0.25);
  EXPECT_EQ(std::get<bool>(*file->Find("bool")), true);
  EXPECT_EQ(std::get<std::string_view>(*file->Find("text")), "hello");
  EXPECT_EQ(std::get<int64_t>(*file->Find("i8")), -1);
  EXPECT_EQ(std::get<int64_t>(*file->Find("i16")), -2);
  EXPECT_EQ(file->Find("none"), nullptr);
  const auto array = [&file](std::string_view key) {
    return std::get<GgufArray>(*file->Find(key));
  };
  EXPECT_THAT(*array("texts").Strings(),
              ElementsAre("", "two", std::string_view("\0x", 2)));
  EXPECT_THAT(*array("floats").Floats(), ElementsAre(0.5f, -2));
  EXPECT_THAT(*array("integers").Integers(), ElementsAre(-1, 7));
  EXPECT_FALSE(array("texts").Integers().ok());
  EXPECT_FALSE(array("texts").Floats().ok());
  EXPECT_FALSE(array("floats").Integers().ok());
  EXPECT_FALSE(array("integers").Strings().ok());
}

TEST(GgufFile, BindsTensorsToTheirBytes) {
  const std::string bytes = TwoTensors().Build();

  const auto file = Parse(bytes);

  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 2u);
  const CheckpointTensor& a = file->tensors()[0];
  const CheckpointTensor& b = file->tensors()[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_THAT(a.shape, ElementsAre(2, 4));
  EXPECT_EQ(a.data.size(), 32u);
  EXPECT_EQ(std::to_integer<char>(a.data.front()), 'a');
  EXPECT_EQ(b.type, SourceType::kF16);
  EXPECT_EQ(std::to_integer<char>(b.data.back()), 'b');
}

TEST(GgufFile, TakesAnotherAlignmentAndNoPaddingAtTheEnd) {
  GgufBuilder builder;
  builder.alignment = 64;
  builder.Uint32("general.alignment", 64);
  const std::vector<int64_t> shape = {3};
  builder.Tensor("a", SourceType::kF32, shape, std::string(12, 'a'));
  std::string bytes = builder.Build();
  EXPECT_TRUE(Parse(bytes).ok());
  bytes.resize(bytes.size() - 52);  // ends with the tensor's last byte
  EXPECT_TRUE(Parse(bytes).ok());
  bytes.pop_back();
  EXPECT_FALSE(Parse(bytes).ok());
}

// A file that lies in one place, and a part of the message about it.
struct Lie {
  const char* name;
  std::function<void(GgufBuilder&)> tell;
  absl::StatusCode code;
  const char* message;
};

class GgufLies : public testing::TestWithParam<Lie> {};

TEST_P(GgufLies, AreRefusedByName) {
  GgufBuilder builder = TwoTensors();
  GetParam().tell(builder);

  const auto file = Parse(builder.Build());

  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), GetParam().code) << file.status();
  EXPECT_THAT(std::string(file.status().message()),
              HasSubstr(GetParam().message));
}

constexpr auto kLoss = absl::StatusCode::kDataLoss;
constexpr auto kNot = absl::StatusCode::kUnimplemented;

std::string Number64(uint64_t value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}
std::string ArrayHead(uint32_t type, uint64_t count) {
  return std::string(reinterpret_cast<const char*>(&type), sizeof(type)) +
         Number64(count);
}

INSTANTIATE_TEST_SUITE_P(
    All, GgufLies,
    testing::Values(
        Lie{"version2", [](auto& b) { b.version = 2; }, kNot, "version"},
        Lie{"big_endian", [](auto& b) { b.version = 0x03000000; }, kNot,
            "big endian"},
        Lie{"one_tensor_too_many", [](auto& b) { b.extra_tensor_count = 1; },
            kLoss, ""},
        Lie{"huge_tensor_count",
            [](auto& b) { b.extra_tensor_count = int64_t{1} << 60; }, kLoss,
            "tensor count"},
        Lie{"huge_metadata_count",
            [](auto& b) { b.extra_metadata_count = int64_t{1} << 60; }, kLoss,
            "metadata count"},
        Lie{"duplicate_key",
            [](auto& b) { b.Text("general.architecture", "x"); }, kLoss,
            "'general.architecture' occurs twice"},
        Lie{"unknown_value_type", [](auto& b) { b.Raw("k", 13, "1234"); },
            kLoss, "unknown type: 13"},
        Lie{"boolean_of_two", [](auto& b) { b.Raw("k", 7, "\x02"); }, kLoss,
            "'k' does not hold"},
        Lie{"u64_beyond_int64", [](auto& b) { b.Uint64("k", 1ull << 63); },
            kLoss, "'k' does not hold"},
        Lie{"string_longer_than_file",
            [](auto& b) { b.Raw("k", 8, Number64(1000000)); }, kLoss,
            "ends inside"},
        Lie{"string_of_2_to_64",
            [](auto& b) { b.Raw("k", 8, Number64(~0ull)); }, kLoss,
            "the limit is"},
        Lie{"array_in_array",
            [](auto& b) { b.Raw("k", 9, ArrayHead(9, 1) + ArrayHead(4, 0)); },
            kLoss, "only numbers, booleans and strings"},
        Lie{"array_longer_than_file",
            [](auto& b) { b.Raw("k", 9, ArrayHead(4, 1000000)); }, kLoss,
            "the size of 'k'"},
        Lie{"array_whose_bytes_overflow",
            [](auto& b) { b.Raw("k", 9, ArrayHead(10, 1ull << 61)); }, kLoss,
            "the size of 'k'"},
        Lie{"strings_longer_than_file",
            [](auto& b) { b.Raw("k", 9, ArrayHead(8, 1) + Number64(1 << 20)); },
            kLoss, "ends inside"},
        Lie{"alignment_zero", [](auto& b) { b.Uint32("general.alignment", 0); },
            kLoss, "general.alignment"},
        Lie{"alignment_of_24",
            [](auto& b) { b.Uint32("general.alignment", 24); }, kLoss,
            "got 24"},
        Lie{"alignment_of_2_to_31",
            [](auto& b) { b.Uint32("general.alignment", 1u << 31); }, kLoss,
            "got 2147483648"},
        Lie{"alignment_as_text",
            [](auto& b) { b.Text("general.alignment", "32"); }, kLoss,
            "another type"},
        Lie{"duplicate_tensor", [](auto& b) { b.tensors()[1].name = "a"; },
            kLoss, "'a' occurs twice"},
        Lie{"tensor_name_too_long",
            [](auto& b) { b.tensors()[1].name = std::string(300, 'x'); }, kLoss,
            "the limit is"},
        Lie{"no_dimensions", [](auto& b) { b.tensors()[0].dims.clear(); },
            kLoss, "0 dimensions"},
        Lie{"five_dimensions",
            [](auto& b) {
              b.tensors()[0].dims = {2, 2, 2, 1, 1};
            },
            kLoss, "5 dimensions"},
        Lie{"dimension_zero",
            [](auto& b) {
              b.tensors()[0].dims = {0, 2};
            },
            kLoss, "size 0"},
        Lie{"dimension_negative",
            [](auto& b) {
              b.tensors()[0].dims = {~0ull, 2};
            },
            kLoss, "size"},
        Lie{"elements_overflow",
            [](auto& b) {
              b.tensors()[0].dims = {1ull << 32, 1ull << 32, 4};
            },
            kLoss, "larger than any file"},
        Lie{"elements_wrap_to_the_right_size",
            [](auto& b) {
              b.tensors()[0].dims = {(1ull << 62) + 8, 4};
            },
            kLoss, "larger than any file"},
        Lie{"bytes_overflow",
            [](auto& b) { b.tensors()[0].dims = {1ull << 62}; }, kLoss,
            "larger than any file"},
        Lie{"larger_than_file",
            [](auto& b) {
              b.tensors()[1].dims = {400, 4};
            },
            kLoss, "outside the file"},
        Lie{"not_whole_blocks", [](auto& b) { b.tensors()[0].ggml_type = 2; },
            kLoss, "not whole blocks of 32"},
        Lie{"type_not_supported",
            [](auto& b) { b.tensors()[0].ggml_type = 10; }, kNot,
            "tensor 'a' has Q2_K"},
        Lie{"type_unknown", [](auto& b) { b.tensors()[0].ggml_type = 4711; },
            kNot, "number 4711"},
        Lie{"offset_not_aligned", [](auto& b) { b.tensors()[1].offset = 33; },
            kLoss, "not a multiple of 32"},
        Lie{"overlap", [](auto& b) { b.tensors()[1].offset = 0; }, kLoss,
            "they overlap"},
        Lie{"gap", [](auto& b) { b.tensors()[1].offset = 64; }, kLoss,
            "there is a gap"},
        Lie{"offset_near_2_to_64",
            [](auto& b) { b.tensors()[1].offset = ~0ull - 31; }, kLoss, ""},
        Lie{"only_tensor_far_away",
            [](auto& b) {
              b.tensors().pop_back();
              b.tensors()[0].offset = ~0ull - 31;
            },
            kLoss, "there is a gap"},
        Lie{"trailing_bytes",
            [](auto& b) { b.tensors()[1].data += std::string(64, 'x'); }, kLoss,
            "64 bytes follow the last tensor"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(GgufFile, RefusesBytesAfterMetadataWithoutTensors) {
  GgufBuilder builder;
  builder.Text("k", "v");
  std::string bytes = builder.Build();
  EXPECT_TRUE(Parse(bytes).ok());
  bytes.append(64, 'x');
  EXPECT_FALSE(Parse(bytes).ok());
}

TEST(GgufFile, MessagesShowHostileNamesAsPrintableText) {
  GgufBuilder builder = TwoTensors();
  builder.tensors()[0].name = "evil\n\x1b[31m";
  builder.tensors()[0].ggml_type = 10;
  const auto file = Parse(builder.Build());
  EXPECT_THAT(std::string(file.status().message()),
              HasSubstr("'evil\\x0a\\x1b[31m'"));
}

TEST(GgufFile, EveryPrefixIsRefused) {
  TinyModelOptions options;
  options.num_layers = 1;
  options.width = 32;
  options.ffn_width = 32;
  options.num_heads = 2;
  options.num_kv_heads = 1;
  std::string bytes = TinyGguf(MakeTinyModel(options)).Build();
  ASSERT_TRUE(Parse(bytes).ok());
  // The last tensor has 32 f32, so no padding follows it.
  const std::span<const std::byte> whole = Bytes(bytes);
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_FALSE(GgufFile::Parse(whole.first(size)).ok()) << size;
  }
}

// Whatever one byte says, the parser answers, and what it accepts stays inside
// the file.
TEST(GgufFile, SurvivesEveryCorruptionOfAByteOfItsHeader) {
  TinyModelOptions options;
  options.num_layers = 1;
  options.width = 32;
  options.ffn_width = 32;
  options.num_heads = 2;
  options.num_kv_heads = 1;
  const TinyModel model = MakeTinyModel(options);
  std::string bytes = TinyGguf(model).Build();
  size_t data_bytes = 0;
  for (const TinyTensor& tensor : model.tensors) {
    data_bytes += tensor.data.size();
  }
  const size_t header_bytes = bytes.size() - data_bytes;
  for (size_t i = 0; i < header_bytes; ++i) {
    const char original = bytes[i];
    for (const int flip : {0x01, 0x80, 0xff}) {
      bytes[i] = static_cast<char>(original ^ flip);
      const auto file = Parse(bytes);
      if (!file.ok()) continue;
      for (const CheckpointTensor& tensor : file->tensors()) {
        const auto* begin = reinterpret_cast<const char*>(tensor.data.data());
        ASSERT_GE(begin, bytes.data());
        ASSERT_LE(begin + tensor.data.size(), bytes.data() + bytes.size());
      }
    }
    bytes[i] = original;
  }
}

}  // namespace
}  // namespace sentencekv
