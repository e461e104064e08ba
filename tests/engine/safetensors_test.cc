#include "engine/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kLoss = absl::StatusCode::kDataLoss;
constexpr auto kNot = absl::StatusCode::kUnimplemented;

std::string File(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  std::string bytes(sizeof(size), '\0');
  std::memcpy(bytes.data(), &size, sizeof(size));
  return bytes + header + data;
}

absl::StatusOr<std::vector<CheckpointTensor>> Parse(const std::string& bytes) {
  return ParseSafetensors(std::as_bytes(std::span(bytes.data(), bytes.size())),
                          "file");
}

TEST(Safetensors, BindsTensorsToTheirBytes) {
  const std::string bytes = File(R"({"__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "c": {"dtype": "F16", "shape": [], "data_offsets": [28, 30]}})",
                                 std::string(24, 'a') + "bbbbcc");
  const auto tensors = Parse(bytes);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 3u);
  EXPECT_EQ((*tensors)[0].name, "a");
  EXPECT_THAT((*tensors)[0].shape, ElementsAre(2, 3));
  EXPECT_EQ((*tensors)[0].data.size(), 24u);
  EXPECT_EQ((*tensors)[1].type, SourceType::kBF16);
  EXPECT_EQ(std::to_integer<char>((*tensors)[1].data[0]), 'b');
  EXPECT_EQ((*tensors)[2].type, SourceType::kF16);
  EXPECT_EQ((*tensors)[2].num_elements(), 1);
}

// A header with one tensor of F32.
std::string OneTensor(const std::string& shape, const std::string& offsets) {
  return R"({"a": {"dtype": "F32", "shape": )" + shape +
         R"(, "data_offsets": )" + offsets + "}}";
}

struct Lie {
  const char* name;
  std::string header;  // of a file with 8 bytes of data
  absl::StatusCode code;
  const char* message;
};

class SafetensorsLies : public testing::TestWithParam<Lie> {};

TEST_P(SafetensorsLies, AreRefusedByName) {
  const auto tensors = Parse(File(GetParam().header, "12345678"));
  ASSERT_FALSE(tensors.ok());
  EXPECT_EQ(tensors.status().code(), GetParam().code) << tensors.status();
  EXPECT_THAT(std::string(tensors.status().message()),
              HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, SafetensorsLies,
    testing::Values(
        Lie{"not_json", "hello", kLoss, "file: not JSON"},
        Lie{"list", "[]", kLoss, "not a JSON object"},
        Lie{"tensor_as_number", R"({"a": 1})", kLoss, "'a' is not an object"},
        Lie{"twice",
            R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})",
            kLoss, "key 'a' occurs twice"},
        Lie{"no_dtype", R"({"a": {"shape": [2], "data_offsets": [0, 8]}})",
            kLoss, "'a' has no dtype"},
        Lie{"f64",
            R"({"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}})",
            kNot,
            "dtype of tensor 'a': not supported, only F32, F16 and BF16; "
            "got 'F64'"},
        Lie{"no_shape", R"({"a": {"dtype": "F32", "data_offsets": [0, 8]}})",
            kLoss, "'a' has no shape"},
        Lie{"negative_shape", OneTensor("[-2]", "[0, 8]"), kLoss,
            "'a' has no shape"},
        Lie{"real_shape", OneTensor("[2.0]", "[0, 8]"), kLoss,
            "'a' has no shape"},
        Lie{"empty_dimension", OneTensor("[0]", "[0, 0]"), kLoss, "size 0"},
        Lie{"five_dimensions", OneTensor("[1, 1, 1, 1, 2]", "[0, 8]"), kLoss,
            "'a' has no shape of at most 4"},
        Lie{"shape_overflows",
            OneTensor("[4294967296, 4294967296, 4]", "[0, 8]"), kLoss,
            "larger than any file"},
        Lie{"shape_wraps", OneTensor("[4611686018427387904, 4]", "[0, 0]"),
            kLoss, "larger than any file"},
        Lie{"shape_beyond_int64", OneTensor("[18446744073709551615]", "[0, 8]"),
            kLoss, "'a' has no shape"},
        Lie{"no_offsets", R"({"a": {"dtype": "F32", "shape": [2]}})", kLoss,
            "data_offsets"},
        Lie{"one_offset", OneTensor("[2]", "[8]"), kLoss, "data_offsets"},
        Lie{"swapped", OneTensor("[2]", "[8, 0]"), kLoss, "claims 8..0 of 8"},
        Lie{"too_few_bytes", OneTensor("[3]", "[0, 8]"), kLoss,
            "needs 12 bytes"},
        Lie{"outside", OneTensor("[2]", "[4, 12]"), kLoss, "claims 4..12 of 8"},
        Lie{"overlap",
            R"({"a": {"dtype": "F16", "shape": [3], "data_offsets": [0, 6]},
                "b": {"dtype": "F16", "shape": [2], "data_offsets": [4, 8]}})",
            kLoss, "overlaps"},
        Lie{"hole",
            R"({"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]},
                "b": {"dtype": "F16", "shape": [2], "data_offsets": [4, 8]}})",
            kLoss, "leaves a hole"},
        Lie{"hole_at_the_start", OneTensor("[1]", "[4, 8]"), kLoss,
            "leaves a hole"},
        Lie{"trailing", OneTensor("[1]", "[0, 4]"), kLoss, "4 bytes follow"},
        Lie{"no_tensors", "{}", kLoss, "8 bytes follow"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Safetensors, RefusesHeadersThatDoNotFit) {
  EXPECT_EQ(Parse("").status().code(), kLoss);
  EXPECT_EQ(Parse("1234567").status().code(), kLoss);
  for (const uint64_t size : {uint64_t{1}, uint64_t{1} << 24,
                              (uint64_t{1} << 24) + 1, ~uint64_t{0}}) {
    std::string bytes(sizeof(size), '\0');
    std::memcpy(bytes.data(), &size, sizeof(size));
    EXPECT_EQ(Parse(bytes).status().code(), kLoss) << size;
  }
}

TinyModel Small() {
  TinyModelOptions options;
  options.num_layers = 1;
  options.width = 16;
  options.ffn_width = 16;
  options.num_heads = 2;
  options.num_kv_heads = 1;
  options.head_dim = 8;
  return MakeTinyModel(options);
}

TEST(Safetensors, EveryPrefixIsRefused) {
  const std::string bytes = TinySafetensors(Small());
  ASSERT_TRUE(Parse(bytes).ok());
  const auto whole = std::as_bytes(std::span(bytes.data(), bytes.size()));
  // Each parses the header again, so the data is cut in larger steps.
  for (size_t size = 0; size < bytes.size(); size += size < 4000 ? 1 : 97) {
    ASSERT_FALSE(ParseSafetensors(whole.first(size), "file").ok()) << size;
  }
}

TEST(Safetensors, SurvivesEveryCorruptionOfAByteOfItsHeader) {
  std::string bytes = TinySafetensors(Small());
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), sizeof(header_size));
  for (size_t i = 0; i < 8 + header_size; ++i) {
    const char original = bytes[i];
    for (const int flip : {0x01, 0xff}) {
      bytes[i] = static_cast<char>(original ^ flip);
      const auto tensors = Parse(bytes);
      if (!tensors.ok()) continue;
      for (const CheckpointTensor& tensor : *tensors) {
        const auto* begin = reinterpret_cast<const char*>(tensor.data.data());
        ASSERT_GE(begin, bytes.data());
        ASSERT_LE(begin + tensor.data.size(), bytes.data() + bytes.size());
      }
    }
    bytes[i] = original;
  }
}

TEST(SafetensorsIndex, ListsPlainFileNames) {
  const auto index = ParseSafetensorsIndex(
      R"({"metadata": {"total_size": 1},
          "weight_map": {"a": "x.safetensors", "b": "y.safetensors"}})");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->at("a"), "x.safetensors");
  for (const char* text :
       {R"({})", R"({"weight_map": 1})", R"({"weight_map": {"a": 1}})",
        R"({"weight_map": {"a": ""}})",
        R"({"weight_map": {"a": "../x.safetensors"}})",
        R"({"weight_map": {"a": "/etc/passwd"}})",
        R"({"weight_map": {"a": ".."}})",
        R"({"weight_map": {"a": "x\u0000y"}})"}) {
    EXPECT_EQ(ParseSafetensorsIndex(text).status().code(), kLoss) << text;
  }
}

class SafetensorsFolder : public testing::Test {
 protected:
  absl::Status Open() { return OpenSafetensorsFolder(folder_).status(); }
  std::string Index() const {
    return folder_ + "/model.safetensors.index.json";
  }
  const TinyModel tiny_ = Small();
  const std::string folder_ = WriteTinyFolder(tiny_, 2);
};

TEST_F(SafetensorsFolder, ReadsAllShards) {
  const auto checkpoint = OpenSafetensorsFolder(folder_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->files.size(), 2u);
  EXPECT_EQ(checkpoint->tensors.size(), tiny_.tensors.size());
}

TEST_F(SafetensorsFolder, NamesAShardThatIsMissing) {
  ASSERT_EQ(
      std::remove((folder_ + "/model-00002-of-00002.safetensors").c_str()), 0);
  EXPECT_THAT(std::string(Open().message()),
              HasSubstr("model-00002-of-00002.safetensors"));
  EXPECT_EQ(Open().code(), absl::StatusCode::kNotFound);
}

TEST_F(SafetensorsFolder, RefusesATensorThatIsElsewhereThanTheIndexSays) {
  WriteFile(folder_ + "/model-00002-of-00002.safetensors",
            TinySafetensors(tiny_, 0, 2));
  EXPECT_EQ(Open().code(), kLoss);
  EXPECT_THAT(std::string(Open().message()), HasSubstr("is not where"));
}

TEST_F(SafetensorsFolder, RefusesAnIndexThatListsMoreThanThereIs) {
  WriteFile(folder_ + "/model-00002-of-00002.safetensors", File("{}", ""));
  EXPECT_EQ(Open().code(), kLoss);
  EXPECT_THAT(std::string(Open().message()), HasSubstr("lists"));
}

TEST_F(SafetensorsFolder, SaysWhatIsMissingFromAnEmptyFolder) {
  const auto status = OpenSafetensorsFolder(MakeTempDir()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("neither model.safetensors nor"));
}

}  // namespace
}  // namespace sentencekv
