#include "engine/llama_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "engine/checkpoint.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

class LlamaTensorsTest : public testing::Test {
 protected:
  LlamaTensorsTest() {
    TinyModelOptions options;
    options.qkv_bias = true;
    options.tied_output = false;
    tiny_ = MakeTinyModel(options);
    auto checkpoint = OpenCheckpoint(WriteTinyGguf(tiny_));
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
  }

  CheckpointTensor& tensor(std::string_view name) {
    return *std::find_if(
        checkpoint_.tensors.begin(), checkpoint_.tensors.end(),
        [name](const CheckpointTensor& t) { return t.name == name; });
  }
  absl::StatusOr<LlamaTensors> Find() {
    return FindLlamaTensors(tiny_.config, TensorNaming::kGguf,
                            checkpoint_.tensors);
  }
  void ExpectError(absl::StatusCode code, const char* message) {
    const absl::Status status = Find().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }

  TinyModel tiny_;
  Checkpoint checkpoint_;
};

TEST_F(LlamaTensorsTest, FindsEveryPart) {
  const auto found = Find();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->embedding->name, "token_embd.weight");
  EXPECT_EQ(found->output->name, "output.weight");
  ASSERT_EQ(found->layers.size(), 2u);
  EXPECT_EQ(found->layers[1].k->name, "blk.1.attn_k.weight");
  EXPECT_EQ(found->layers[1].k_bias->name, "blk.1.attn_k.bias");
  EXPECT_EQ(found->layers[0].up_bias, nullptr);
  EXPECT_EQ(found->rope_factors, nullptr);
}

TEST_F(LlamaTensorsTest, NamesATensorThatIsMissing) {
  tensor("blk.1.ffn_up.weight").name = "else";
  ExpectError(absl::StatusCode::kDataLoss,
              "tensor 'blk.1.ffn_up.weight': missing");
}

TEST_F(LlamaTensorsTest, NamesATensorOfAnotherShape) {
  CheckpointTensor& k = tensor("blk.0.attn_k.weight");
  std::swap(k.shape[0], k.shape[1]);
  ExpectError(absl::StatusCode::kDataLoss,
              "tensor 'blk.0.attn_k.weight': the configuration asks for shape "
              "[32, 64], got [64, 32]");
}

TEST_F(LlamaTensorsTest, NamesATensorOfAnotherRank) {
  tensor("output_norm.weight").shape = {64, 1};
  ExpectError(absl::StatusCode::kDataLoss, "'output_norm.weight'");
}

TEST_F(LlamaTensorsTest, NamesATensorThatIsNotUsed) {
  CheckpointTensor extra = tensor("output_norm.weight");
  extra.name = "blk.0.attn_q_norm.weight";
  checkpoint_.tensors.push_back(extra);
  ExpectError(absl::StatusCode::kUnimplemented,
              "'blk.0.attn_q_norm.weight': not part of the network");
}

TEST_F(LlamaTensorsTest, LeavesOldFrequencyTablesAside) {
  CheckpointTensor extra = tensor("output_norm.weight");
  extra.name = "model.layers.0.self_attn.rotary_emb.inv_freq";
  checkpoint_.tensors.push_back(extra);
  EXPECT_TRUE(Find().ok());
}

TEST_F(LlamaTensorsTest, RefusesQuantizedVectors) {
  tensor("output_norm.weight").type = SourceType::kQ8_0;
  ExpectError(absl::StatusCode::kUnimplemented, "got Q8_0");
}

TEST_F(LlamaTensorsTest, RefusesATensorOfALayerBeyondTheLast) {
  tiny_.config.num_layers = 1;
  ExpectError(absl::StatusCode::kUnimplemented, "'blk.1.");
  tiny_.config.num_layers = 3;
  ExpectError(absl::StatusCode::kDataLoss, "'blk.2.attn_norm.weight'");
}

TEST_F(LlamaTensorsTest, ChecksTheShapeOfRopeFactors) {
  CheckpointTensor factors = tensor("output_norm.weight");
  factors.name = "rope_freqs.weight";
  checkpoint_.tensors.push_back(factors);
  ExpectError(absl::StatusCode::kDataLoss,
              "'rope_freqs.weight': the configuration asks for shape [8]");
}

}  // namespace
}  // namespace sentencekv
