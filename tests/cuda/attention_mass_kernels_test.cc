// Attention mass on the device, against the CPU backend.
#include "kernels/cuda/attention_mass_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "fmt/format.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/cuda/device_step.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

// The rows of a step's only sequence as queries, [rows, H, D].
std::vector<float> Queries(const PagedStep& step) {
  const AttentionShape& shape = step.shape();
  std::vector<float> queries;
  for (int64_t row = 0; row < step.num_rows(); ++row) {
    for (int64_t head = 0; head < shape.num_heads; ++head) {
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        queries.push_back(step.Query(row, head, d));
      }
    }
  }
  return queries;
}

int64_t NumKeys(const PagedStep& step) {
  return step.sequences()[0].position + step.num_rows();
}

std::vector<float> NoMass(const PagedStep& step) {
  return std::vector<float>(
      static_cast<size_t>(step.shape().num_heads * NumKeys(step)), NAN);
}

std::vector<float> OnCpu(const PagedStep& step) {
  const auto backend = MakeCpuBackend({.num_threads = 1}).value();
  const std::vector<float> queries = Queries(step);
  std::vector<float> out = NoMass(step);
  const KvSequence& sequence = step.sequences()[0];
  EXPECT_TRUE(backend
                  ->AttentionMass({.queries = queries.data(),
                                   .num_queries = step.num_rows(),
                                   .first_position = sequence.position,
                                   .kv = step.view(),
                                   .pages = sequence.pages,
                                   .num_heads = step.shape().num_heads,
                                   .scale = step.scale(),
                                   .out = out.data()})
                  .ok());
  return out;
}

std::vector<float> OnDevice(cuda_sim::SimDevice& device,
                            const PagedStep& step) {
  const KvSequence& sequence = step.sequences()[0];
  const int64_t num_pages = (NumKeys(step) + kPageTokens - 1) / kPageTokens;
  const std::vector<float> nothing = NoMass(step);
  const AttentionMassLaunch launch = {
      .queries = device.Upload(Queries(step)),
      .num_queries = step.num_rows(),
      .first_position = sequence.position,
      .kv = DeviceStep(device, step).kv(),
      .pages = device.Upload(
          std::vector<int32_t>(sequence.pages, sequence.pages + num_pages)),
      .num_heads = step.shape().num_heads,
      .scale = step.scale(),
      .out = device.Upload(nothing),
      .workspace = device.Device<float>(AttentionMassWorkspaceFloats(
          step.num_rows(), step.shape().num_heads, NumKeys(step)))};
  EXPECT_EQ(LaunchAttentionMass(launch, device.stream()), cudaSuccess);
  return device.Download(launch.out, nothing.size());
}

void ExpectCpu(const PagedStep& step, uint64_t num_seeds) {
  const std::vector<float> expected = OnCpu(step);
  ForSeeds(num_seeds, [&](cuda_sim::SimDevice& device) {
    const std::vector<float> out = OnDevice(device, step);
    ASSERT_EQ(out.size(), expected.size());
    for (size_t i = 0; i < out.size(); ++i) {
      // Written so that NaN fails.
      ASSERT_TRUE(std::fabs(out[i] - expected[i]) <= 2e-7 + 4e-5 * expected[i])
          << "element " << i << ": " << out[i] << " for " << expected[i];
    }
  });
}

// The pool is NaN wherever no token is.
TEST(CudaAttentionMass, EqualsTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const StepRows& rows :
         {StepRows{0, 1}, {0, 17}, {15, 1}, {63, 2}, {31, 33}, {200, 32}}) {
      for (const int64_t dim : {8, 40, 128}) {
        if (dtype != DType::kBF16 && dim != 40) continue;
        SCOPED_TRACE(fmt::format("{} {}+{} dim {}", Name(dtype), rows.position,
                                 rows.num_rows, dim));
        ExpectCpu(PagedStep({.num_heads = 4,
                             .num_kv_heads = 2,
                             .head_dim = dim,
                             .dtype = dtype},
                            {rows}, 5),
                  dim == 8 ? (rows.num_rows < 20 ? 20 : 3) : 1);
      }
    }
  }
}

TEST(CudaAttentionMass, TakesEveryGroup) {
  for (const int64_t group : {1, 2, 7, 13}) {
    SCOPED_TRACE(group);
    ExpectCpu(
        PagedStep({.num_heads = 2 * group, .num_kv_heads = 2, .head_dim = 24},
                  {{70, 19}}, 6),
        3);
  }
}

TEST(CudaAttentionMass, TakesTheWidestHead) {
  ExpectCpu(PagedStep({.num_heads = 2, .num_kv_heads = 1, .head_dim = 256},
                      {{130, 20}}, 6),
            3);
}

TEST(CudaAttentionMass, KeepsItsPrecisionWithPeakedScores) {
  ExpectCpu(PagedStep({.num_heads = 2, .num_kv_heads = 1, .head_dim = 8},
                      {{500, 32}}, 7, 4.0f),
            3);
}

}  // namespace
}  // namespace sentencekv
