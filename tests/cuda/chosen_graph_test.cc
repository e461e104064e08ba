// A decode step captured once and launched while the texts grow: attention
// gives the bits that it gives where all pages lie on the device and the host
// chooses.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/cuda/chosen_decoding.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

using Kinds = std::array<SentenceIndexKind, ChosenDecoding::kRows>;

constexpr int64_t kSteps = 5;
// The kernels that ran, but for those of attention.
std::map<std::string, int64_t> Launches() {
  std::map<std::string, int64_t> launches;
  for (const auto& count : cuda_sim::OperationCounts()) {
    const bool is_kernel = count.name.find("Kernel") != std::string::npos;
    const bool attends =
        count.name.starts_with("MmaKernel") || count.name == "MergeKernel";
    if (is_kernel && !attends) launches[count.name] = count.launches;
  }
  return launches;
}

void ExpectTrueWhileTextsGrow(const Kinds& kinds, uint32_t num_seeds,
                              const std::map<std::string, int64_t>& expected) {
  uint32_t seed = 0;
  ForSeeds(num_seeds, [&](cuda_sim::SimDevice& device) {
    ChosenDecoding decoding(device, ++seed, kinds);
    decoding.Capture();
    if (testing::Test::HasFailure()) return;
    for (int64_t step = 0; step < kSteps; ++step) {
      decoding.LaunchStep();
      ASSERT_EQ(cudaStreamSynchronize(device.stream()), cudaSuccess);
      if (step == 0) {
        EXPECT_EQ(Launches(), expected);
      }
      decoding.ExpectTheHostsAttention();
      if (testing::Test::HasFailure()) return;
    }
  });
}

// Besides attention itself there are three launches a layer.
TEST(CudaChosenGraph, StaysTrueWhileTextsGrow) {
  ExpectTrueWhileTextsGrow(
      {SentenceIndexKind::kMean, SentenceIndexKind::kMinMax}, 3,
      {{"ScoreRowsKernel", ChosenDecoding::kLayers},
       {"ChooseKernel", ChosenDecoding::kLayers},
       {"GatherRunsKernel", ChosenDecoding::kLayers}});
}

TEST(CudaChosenGraph, StaysTrueWithSigns) {
  ExpectTrueWhileTextsGrow({SentenceIndexKind::kMean, SentenceIndexKind::kSign},
                           2,
                           {{"ScoreRowsKernel", ChosenDecoding::kLayers},
                            {"ChooseKernel", ChosenDecoding::kLayers},
                            {"GatherRunsKernel", ChosenDecoding::kLayers}});
}

}  // namespace
}  // namespace sentencekv
