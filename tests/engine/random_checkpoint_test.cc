#include "engine/random_checkpoint.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/checkpoint_tokenizer.h"
#include "engine/llama_tensors.h"
#include "engine/model_loader.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/block_formats.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/support/model_runner.h"
#include "tests/support/test_files.h"

namespace sentencekv {
namespace {

std::string WriteConfig(const std::string& text) {
  const std::string path = MakeTempDir() + "/config.json";
  std::ofstream(path) << text;
  return path;
}

// Norms wider than no matrix, an output of its own, biases.
std::string WriteSmallConfig() {
  return WriteConfig(R"({"model_type": "llama", "hidden_act": "silu",
      "num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 96,
      "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
      "vocab_size": 300, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
      "rope_theta": 10000.0, "tie_word_embeddings": false,
      "attention_bias": true})");
}

std::vector<float> Values(const CheckpointTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  DequantizeRow(tensor.type, tensor.data.data(), tensor.num_elements(),
                values.data());
  return values;
}

TEST(RandomCheckpoint, HasTheTensorsThatTheNetworkNeeds) {
  const auto checkpoint = MakeRandomCheckpoint(WriteSmallConfig());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto config = checkpoint->Config();
  ASSERT_TRUE(config.ok()) << config.status();
  const auto tensors =
      FindLlamaTensors(*config, checkpoint->naming(), checkpoint->tensors);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  const int64_t layer = 2 * 64 + 128 * 64 + 128 + 64 * 64 + 64 + 3 * 64 * 96;
  EXPECT_EQ(tensors->num_parameters, 2 * 300 * 64 + 64 + 3 * layer);
  EXPECT_EQ(checkpoint->DominantType(), "BF16");
  for (const CheckpointTensor& tensor : checkpoint->tensors) {
    EXPECT_EQ(tensor.data.size(), *TensorBytes(tensor)) << tensor.name;
  }
}

TEST(RandomCheckpoint, NumbersKeepTheSizeOfWhatTheyMultiply) {
  const auto checkpoint = MakeRandomCheckpoint(WriteSmallConfig());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  for (const CheckpointTensor& tensor : checkpoint->tensors) {
    const std::vector<float> values = Values(tensor);
    if (tensor.name.ends_with("norm.weight")) {
      EXPECT_THAT(values, testing::Each(1.0f)) << tensor.name;
      continue;
    }
    if (tensor.shape.size() == 1) continue;
    double sum = 0;
    double squares = 0;
    for (const float value : values) {
      sum += value;
      squares += value * value;
    }
    const double count = static_cast<double>(values.size());
    // Of a sum of 64 products, before and after; powers of two in between.
    const double growth = std::sqrt(squares / count * 64);
    EXPECT_GT(growth, 0.7) << tensor.name;
    EXPECT_LT(growth, 1.5) << tensor.name;
    EXPECT_NEAR(sum / count, 0, 0.01) << tensor.name;
  }
}

TEST(RandomCheckpoint, IsTheSameEachTimeAndNoMatrixIsAnother) {
  const std::string path = WriteSmallConfig();
  const auto first = MakeRandomCheckpoint(path);
  const auto second = MakeRandomCheckpoint(path);
  ASSERT_TRUE(first.ok() && second.ok());
  std::set<std::vector<float>> beginnings;
  int64_t num_matrices = 0;
  for (size_t i = 0; i < first->tensors.size(); ++i) {
    const std::vector<float> values = Values(first->tensors[i]);
    EXPECT_EQ(values, Values(second->tensors[i]));
    if (first->tensors[i].shape.size() == 1) continue;
    ++num_matrices;
    beginnings.insert({values.begin(), values.begin() + 32});
  }
  EXPECT_EQ(static_cast<int64_t>(beginnings.size()), num_matrices);
}

TEST(RandomCheckpoint, TokenizerTakesAnyBytes) {
  const auto backend = MakeCpuBackend({.num_threads = 1});
  const auto loaded = LoadRandomModel(WriteSmallConfig(), **backend, {});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const std::string text = "Two words,  \xc3\xa9 and\n\xf0\x9f\x90\x8b.";
  const auto ids = loaded->tokenizer->Encode(text, {.add_bos = false});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(ids->size(), text.size());
  EXPECT_EQ(loaded->tokenizer->Decode(*ids), text);
}

TEST(RandomCheckpoint, NetworkComputesSomethingOfItsInput) {
  ModelRunner runner(WriteSmallConfig(), {.random_weights = true});
  const std::vector<int32_t> tokens = {1, 40, 41, 40, 41, 42};
  const auto logits = runner.RunAll(runner.Add(), tokens, 4);
  std::map<int32_t, int> likeliest;
  for (const std::vector<float>& row : logits) {
    for (const float logit : row) ASSERT_TRUE(std::isfinite(logit));
    ++likeliest[Greedy(row)];
  }
  EXPECT_GT(likeliest.size(), 1u);
}

TEST(RandomCheckpoint, RefusesWhatIsNoNetwork) {
  EXPECT_EQ(MakeRandomCheckpoint("/no/such/config.json").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(MakeRandomCheckpoint(WriteConfig("{\"model_type\": \"llama\"}"))
                .status()
                .code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace sentencekv
