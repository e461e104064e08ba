// Attention to chosen tokens on the device, against the CPU backend.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/cuda/device_step.h"
#include "tests/cuda/simulated_device.h"
#include "tests/support/token_choice.h"

namespace sentencekv {
namespace {

constexpr AttentionDevice kCuts = {.num_processors = 132,
                                   .state_floats = 1 << 20};
constexpr AttentionDevice kCutsNothing = {.num_processors = 1,
                                          .state_floats = 0};

std::vector<SelectedTokens> Selections(
    const std::vector<TokenChoice>& choices) {
  std::vector<SelectedTokens> selections;
  for (const TokenChoice& choice : choices) {
    selections.push_back(choice.Selection());
  }
  return selections;
}

// Rows that nothing is chosen for are 7, as DeviceStep has them.
std::vector<float> OnCpu(const PagedStep& step,
                         const std::vector<SelectedTokens>& selections) {
  const auto backend = MakeCpuBackend({.num_threads = 1}).value();
  const std::vector<float> qkv = RoundedActivations(step);
  std::vector<float> out;
  const AttentionParams dense = step.Params(out);
  std::fill(out.begin(), out.end(), 7.0f);
  EXPECT_TRUE(backend
                  ->SelectedAttention({.qkv = qkv.data(),
                                       .out = dense.out,
                                       .kv = dense.kv,
                                       .selections = selections.data(),
                                       .num_selections = std::ssize(selections),
                                       .num_heads = dense.num_heads,
                                       .scale = dense.scale})
                  .ok());
  EXPECT_TRUE(backend->Synchronize().ok());
  return out;
}

TEST(CudaSelectedAttention, EqualsTheCpu) {
  std::mt19937 random(7);
  for (const int64_t group : {1, 3, 7, 13}) {
    for (const int64_t dim : {8, 40, 128, 256}) {
      for (const DType dtype : {DType::kF16, DType::kF32, DType::kBF16}) {
        if (dtype != DType::kBF16 && group != 3) continue;
        SCOPED_TRACE(
            fmt::format("group {} dim {} {}", group, dim, Name(dtype)));
        const PagedStep step({.num_heads = 2 * group,
                              .num_kv_heads = 2,
                              .head_dim = dim,
                              .dtype = dtype},
                             {{349, 1}, {5, 1}, {1, 1}}, 11);
        const std::vector<TokenChoice> choices = {
            Choose(step, 0, 0, 0, Runs(350, 60, random)),
            Choose(step, 0, 0, 1, Runs(350, 3, random)),
            Choose(step, 1, 1, 1, {2}), Choose(step, 2, 2, 0, Range(0, 2))};
        const std::vector<SelectedTokens> selections = Selections(choices);
        const std::vector<float> expected = OnCpu(step, selections);
        ForSeeds(dim == 40 ? 3 : 1, [&](cuda_sim::SimDevice& device) {
          for (const AttentionDevice& how : {kCuts, kCutsNothing}) {
            const std::vector<float> out =
                DeviceStep(device, step).Attend(selections, how);
            ExpectAttention(step, out, expected);
          }
        });
      }
    }
  }
}

// On tensor cores and, of 24 dimensions, one product at a time.
TEST(CudaSelectedAttention, AllTokensGiveTheBitsOfAttention) {
  for (const int64_t length : {1, 15, 16, 17, 64, 65, 255, 257, 600}) {
    for (const int64_t dim : {24, 32}) {
      if (dim == 24 && length != 65 && length != 257) continue;
      SCOPED_TRACE(fmt::format("length {} dim {}", length, dim));
      const PagedStep step({.num_heads = 6, .num_kv_heads = 2, .head_dim = dim},
                           {{length - 1, 1}}, 3);
      const std::vector<TokenChoice> choices = {
          Choose(step, 0, 0, 0, Range(0, length)),
          Choose(step, 0, 0, 1, Range(0, length))};
      ForSeeds(dim == 32 && length < 100 ? 20 : 3,
               [&](cuda_sim::SimDevice& device) {
                 const DeviceStep there(device, step);
                 const std::vector<float> dense = there.Attend(kCuts);
                 for (const AttentionDevice& how : {kCuts, kCutsNothing}) {
                   const std::vector<float> chosen =
                       there.Attend(Selections(choices), how);
                   EXPECT_EQ(std::memcmp(chosen.data(), dense.data(),
                                         dense.size() * sizeof(float)),
                             0);
                 }
               });
    }
  }
}

// Values that are not chosen may be anything, infinity included.
TEST(CudaSelectedAttention, TouchesNoValueThatIsNotChosen) {
  std::mt19937 random(5);
  PagedStep step({.num_heads = 3, .num_kv_heads = 1}, {{199, 1}}, 5);
  const std::vector<TokenChoice> choices = {
      Choose(step, 0, 0, 0, Runs(200, 20, random))};
  std::vector<float> before;
  ForSeeds(1, [&](cuda_sim::SimDevice& device) {
    before = DeviceStep(device, step).Attend(Selections(choices), kCuts);
  });
  for (int64_t p = 0; p < 200; ++p) {
    if (std::binary_search(choices[0].positions.begin(),
                           choices[0].positions.end(), p)) {
      continue;
    }
    for (int64_t d = 0; d < 64; ++d) {
      step.SetValue(0, p, 0, d, std::numeric_limits<float>::infinity());
    }
  }
  ForSeeds(3, [&](cuda_sim::SimDevice& device) {
    EXPECT_EQ(DeviceStep(device, step).Attend(Selections(choices), kCuts),
              before);
  });
}

// Pages of one KV head, as the resident part of a cache has them.
TEST(CudaSelectedAttention, ReadsPagesOfOneHead) {
  const PagedStep step({.num_heads = 4, .num_kv_heads = 2, .head_dim = 32},
                       {{299, 1}}, 9);
  std::vector<TokenChoice> choices = {Choose(step, 0, 0, 0, Range(30, 200)),
                                      Choose(step, 0, 0, 1, Range(0, 300))};
  ForSeeds(3, [&](cuda_sim::SimDevice& device) {
    const DeviceStep whole(device, step);
    const std::vector<float> expected =
        whole.Attend(Selections(choices), kCuts);
    // Run `page` of the pool is page / 2's of head page % 2.
    std::vector<TokenChoice> by_run = choices;
    for (TokenChoice& choice : by_run) {
      for (int32_t& page : choice.pages) {
        page = page * 2 + static_cast<int32_t>(choice.kv_head);
      }
    }
    EXPECT_EQ(whole.AttendPerHead(Selections(by_run), kCuts), expected);
  });
}

TEST(CudaSelectedAttention, WritesNothingElse) {
  const PagedStep step({.num_heads = 4, .num_kv_heads = 2}, {{30, 1}, {9, 1}},
                       3);
  const std::vector<TokenChoice> choices = {Choose(step, 1, 1, 1, {0, 4})};
  ForSeeds(20, [&](cuda_sim::SimDevice& device) {
    const std::vector<float> out =
        DeviceStep(device, step).Attend(Selections(choices), kCuts);
    const int64_t begin = step.out_width() + 2 * 64;
    for (int64_t i = 0; i < std::ssize(out); ++i) {
      EXPECT_EQ(out[i] == 7.0f, i < begin) << i;
    }
  });
}

}  // namespace
}  // namespace sentencekv
