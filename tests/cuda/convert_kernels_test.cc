#include "kernels/cuda/convert_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/half.h"
#include "tests/support/cuda_sim/sim_device.h"

namespace sentencekv {
namespace {

class ConvertKernelsTest : public testing::TestWithParam<uint64_t> {};

TEST_P(ConvertKernelsTest, RoundsEveryElement) {
  for (size_t count : {0u, 1u, 255u, 256u, 257u, 300000u}) {
    cuda_sim::SimDevice device(GetParam());
    std::vector<float> input(count);
    for (size_t i = 0; i < count; ++i) {
      input[i] = std::sin(static_cast<float>(i)) * 100;
    }
    ConvertLaunch launch;
    launch.input = device.Upload(input);
    auto* output = device.Device<uint16_t>(count + 1);
    launch.output = output;
    launch.count = static_cast<int64_t>(count);

    ASSERT_EQ(LaunchConvert(launch, device.stream()), cudaSuccess);
    const std::vector<uint16_t> values = device.Download(output, count + 1);

    ASSERT_EQ(values.size(), count + 1);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(values[i], F32ToBf16(input[i])) << i;
    }
    EXPECT_EQ(values[count], 0xffff) << "what lies behind is untouched";
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ConvertKernelsTest,
                         testing::Range<uint64_t>(0, 3));

}  // namespace
}  // namespace sentencekv
