// From a path to model, tokenizer and chat template; and the report of what a
// path contains.
#include "engine/model_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "kernels/cpu/cpu_backend.h"
#include "tests/support/memory_backend.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

class LoadModelTest : public testing::Test {
 protected:
  absl::StatusOr<LoadedModel> Load(const std::string& path) {
    return LoadModel(path, *backend_, {});
  }
  void ExpectError(const std::string& path, absl::StatusCode code,
                   const char* message) {
    const absl::Status status = Load(path).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }

  std::unique_ptr<Backend> backend_ = *MakeCpuBackend({.num_threads = 1});
  const TinyModel tiny_ = MakeTinyModel({});
};

TEST_F(LoadModelTest, LoadsAGgufFileWithItsTokenizer) {
  const auto loaded = Load(WriteTinyGguf(tiny_));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->model->info().name, "Tiny");
  EXPECT_EQ(loaded->tokenizer->vocab_size(), tiny_.config.vocab_size);
  EXPECT_EQ(loaded->chat_template, tiny_.vocabulary.chat_template);
  const auto ids = loaded->tokenizer->Encode("the day", {});
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->size(), 2u);
  EXPECT_EQ(loaded->tokenizer->Decode(*ids), "the day");
}

TEST_F(LoadModelTest, LoadsAGgufFileWithALlamaVocabulary) {
  TinyModelOptions options;
  options.vocabulary = "llama";
  const auto loaded = Load(WriteTinyGguf(MakeTinyModel(options)));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const auto ids = loaded->tokenizer->Encode("the day", {});
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->front(), 1);  // BOS
  EXPECT_EQ(loaded->tokenizer->Decode(*ids), "the day");
  EXPECT_EQ(loaded->chat_template, "");
}

TEST_F(LoadModelTest, LoadsAFolderWithItsTokenizer) {
  for (const int num_shards : {1, 2}) {
    const std::string folder = WriteTinyFolder(tiny_, num_shards);
    for (const std::string& path : {folder, folder + "/"}) {
      const auto loaded = Load(path);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(loaded->model->info().name,
                std::filesystem::path(folder).filename().string());
      EXPECT_EQ(loaded->model->info().quantization, "F32");
      EXPECT_EQ(loaded->chat_template, tiny_.vocabulary.chat_template);
      const auto ids = loaded->tokenizer->Encode("the day", {});
      ASSERT_TRUE(ids.ok());
      EXPECT_EQ(loaded->tokenizer->Decode(*ids), "the day");
    }
  }
}

TEST_F(LoadModelTest, SaysWhatIsNotThere) {
  ExpectError("/nonexistent/model.gguf", absl::StatusCode::kNotFound,
              "no such file or folder: '/nonexistent/model.gguf'");
  ExpectError(MakeTempDir(), absl::StatusCode::kNotFound, "config.json");
  const std::string folder = WriteTinyFolder(tiny_);
  std::filesystem::remove(folder + "/tokenizer.json");
  EXPECT_EQ(Load(folder).status().code(), absl::StatusCode::kNotFound);
  std::filesystem::remove(folder + "/model.safetensors");
  ExpectError(folder, absl::StatusCode::kNotFound, "model.safetensors");
}

TEST_F(LoadModelTest, RefusesAFileThatIsNoModel) {
  const std::string path = MakeTempDir() + "/text";
  WriteFile(path, "Once upon a time");
  ExpectError(path, absl::StatusCode::kDataLoss, "does not begin with 'GGUF'");
  WriteFile(path, "");
  ExpectError(path, absl::StatusCode::kDataLoss, "GGUF");
}

TEST_F(LoadModelTest, RefusesAVocabularyWithoutMerges) {
  TinyModel broken = tiny_;
  broken.vocabulary.merges = {"not a pair of tokens"};
  EXPECT_FALSE(Load(WriteTinyGguf(broken)).ok());
}

TEST_F(LoadModelTest, RefusesMoreTokensThanTheEmbeddingHasRows) {
  TinyModel broken = tiny_;
  broken.vocabulary.tokens.push_back("one more");
  broken.vocabulary.token_types.push_back(1);
  ExpectError(WriteTinyGguf(broken), absl::StatusCode::kDataLoss,
              "tokenizer.ggml.tokens");
  ExpectError(WriteTinyFolder(broken), absl::StatusCode::kDataLoss,
              "one for each row");
}

TEST_F(LoadModelTest, RefusesRopeFactorsThatAreNotPositive) {
  TinyModelOptions options;
  options.rope_scaling.type = RopeScalingType::kLlama3;
  options.rope_scaling.factor = 8;
  options.rope_scaling.original_context_length = 64;
  for (const float bad : {0.0f, -1.0f, 0.0f / 0.0f, 1.0f / 0.0f}) {
    TinyModel broken = MakeTinyModel(options);
    TinyTensor& factors = broken.tensors.back();
    ASSERT_EQ(factors.name, "rope_freqs.weight");
    factors.data.replace(4, 4, reinterpret_cast<const char*>(&bad), 4);
    ExpectError(WriteTinyGguf(broken), absl::StatusCode::kDataLoss,
                "'rope_freqs.weight': element 1 must be positive");
  }
}

// Every allocation that loading makes may be the one that fails.
TEST_F(LoadModelTest, PassesOnThatThereIsNoMemory) {
  const std::string path = WriteTinyGguf(tiny_);
  MemoryBackend none(0);
  const absl::Status status = LoadModel(path, none, {}).status();
  EXPECT_FALSE(status.ok());
}

TEST(InspectModel, ReportsAGgufFile) {
  TinyModelOptions options;
  options.matrix_type = SourceType::kQ4_1;
  const auto report = InspectModel(WriteTinyGguf(MakeTinyModel(options)));
  ASSERT_TRUE(report.ok()) << report.status();
  for (const char* part :
       {"GGUF version 3", "general.architecture = 'llama'",
        "tokenizer.ggml.tokens = an array of", "4 query, 2 key and value",
        "Q4_1", "F32", "512 tokens", "interleaved", "the embedding",
        "theta 10000", "chatml"}) {
    EXPECT_THAT(*report, HasSubstr(part));
  }
  EXPECT_LT(report->size(), 4000u);  // no list is spelt out
}

TEST(InspectModel, ReportsAFolder) {
  const auto report = InspectModel(WriteTinyFolder(MakeTinyModel({}), 3));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(*report, HasSubstr("Hugging Face folder, 3 weight files"));
  EXPECT_THAT(*report, HasSubstr("halves"));
}

TEST(InspectModel, ReportsWhyAModelIsNotSupported) {
  GgufBuilder builder = TinyGguf(MakeTinyModel({}));
  builder.Uint32("llama.expert_count", 8);
  const std::string path = MakeTempDir() + "/moe.gguf";
  WriteFile(path, builder.Build());
  const auto report = InspectModel(path);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(*report, HasSubstr("llama.expert_count: not supported, only 0; "
                                 "got 8"));
}

TEST(InspectModel, SaysWhatIsWrongWithABrokenFile) {
  EXPECT_EQ(InspectModel("/nonexistent").status().code(),
            absl::StatusCode::kNotFound);
  std::string bytes = TinyGguf(MakeTinyModel({})).Build();
  bytes.resize(bytes.size() / 2);
  const std::string path = MakeTempDir() + "/half.gguf";
  WriteFile(path, bytes);
  EXPECT_EQ(InspectModel(path).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace sentencekv
