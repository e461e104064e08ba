// A whole model on the CUDA backend, with K and V in frames of the device,
// against the CPU: same file, same tokens.
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cuda/backend_under_test.h"
#include "tests/support/model_runner.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

class ModelOnDeviceTest : public CudaBackendTest {
 protected:
  ModelOnDeviceTest()
      : path_(WriteTinyGguf(MakeTinyModel({.matrix_type = SourceType::kBF16,
                                           .embedding_type = SourceType::kBF16,
                                           .tied_output = false,
                                           .qkv_bias = true}))) {
    for (int32_t i = 0; i < 40; ++i) tokens_.push_back(i * i % 61 + 3);
  }

  // The logits after each token, fed in steps of at most `chunk`.
  std::vector<std::vector<float>> Run(const ModelRunnerOptions& options,
                                      int64_t chunk) {
    ModelRunner runner(path_, options);
    return runner.RunAll(runner.Add(), tokens_, chunk);
  }
  ModelRunnerOptions OnDevice() {
    return {.num_pages = 8,
            .kv_dtype = DType::kBF16,
            .context_length = 64,
            .make_backend = [this] { return std::move(backend_); },
            .num_frames = 12};
  }

  const std::string path_;
  std::vector<int32_t> tokens_;
};

INSTANTIATE_TEST_SUITE_P(Seeds, ModelOnDeviceTest,
                         testing::ValuesIn(DeviceSeeds()));

TEST_P(ModelOnDeviceTest, ComputesWhatTheCpuComputes) {
  const auto expected = Run({.num_pages = 8,
                             .kv_dtype = DType::kBF16,
                             .cpu_level = "portable",
                             .context_length = 64},
                            40);
  const auto actual = Run(OnDevice(), 17);
  ASSERT_EQ(actual.size(), expected.size());
  double squares = 0;
  double error_squares = 0;
  for (size_t t = 0; t < actual.size(); ++t) {
    ASSERT_EQ(actual[t].size(), expected[t].size());
    for (size_t i = 0; i < actual[t].size(); ++i) {
      const double error = actual[t][i] - expected[t][i];
      squares += expected[t][i] * expected[t][i];
      error_squares += error * error;
      // Logits are of the order of 2.
      ASSERT_NEAR(error, 0, 0.15) << t << ", " << i;
    }
  }
  // Products round their input to bf16, and so does attention its queries and
  // weights, by 2^-8 at most, a third of that as a rule; 9 products stand in a
  // row.
  EXPECT_LT(std::sqrt(error_squares / squares), 0.012);
}

TEST_P(ModelOnDeviceTest, ChunksGiveTheSameBits) {
  const auto together = Run(OnDevice(), 40);
  SetUp();
  if (backend_ == nullptr) return;
  EXPECT_EQ(Run(OnDevice(), 7), together);
}

}  // namespace
}  // namespace sentencekv
