// Copying missing K and V to the device, byte by byte.
#include "kernels/cuda/gather_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "fmt/format.h"
#include "tests/cuda/simulated_device.h"

namespace sentencekv {
namespace {

constexpr std::byte kUntouched{0xa5};

// A pool, and lists of what is missing: every run at most once.
struct GatherCase {
  KvLayout layout;
  int64_t num_lists = 1;
  int64_t most_missing = 1;
  int64_t num_runs = 1;
  std::vector<int32_t> num_missing;
  std::vector<MissingRun> missing;  // [num_lists][most_missing]
};

GatherCase RandomCase(const KvLayout& layout, int64_t num_lists,
                      int64_t most_missing, std::mt19937& random) {
  GatherCase c = {layout, num_lists, most_missing, num_lists * most_missing};
  std::vector<int32_t> runs(static_cast<size_t>(c.num_runs));
  std::iota(runs.begin(), runs.end(), 0);
  std::ranges::shuffle(runs, random);
  // What lies behind a list's end must not be looked at.
  c.missing.assign(runs.size(), {1 << 30, 1 << 20, 1 << 30, 0xffff});
  for (int64_t list = 0; list < num_lists; ++list) {
    const auto count = static_cast<int32_t>(random() % (most_missing + 1));
    c.num_missing.push_back(count);
    for (int64_t i = list * most_missing; i < list * most_missing + count;
         ++i) {
      c.missing[i] = {static_cast<int32_t>(random() % layout.num_pages),
                      static_cast<int32_t>(random() % layout.num_kv_heads),
                      runs[i], 1 + static_cast<uint32_t>(random()) % 0xffff};
    }
  }
  return c;
}

std::vector<std::byte> Expected(const GatherCase& c,
                                const std::vector<std::byte>& pool,
                                int64_t layer) {
  const KvLayout& layout = c.layout;
  std::vector<std::byte> runs(
      static_cast<size_t>(c.num_runs * layout.head_bytes()), kUntouched);
  const int64_t token_bytes = layout.head_dim * SizeOf(layout.dtype);
  for (int64_t list = 0; list < c.num_lists; ++list) {
    for (int64_t i = 0; i < c.num_missing[list]; ++i) {
      const MissingRun& missing = c.missing[list * c.most_missing + i];
      const int64_t from = layer * layout.layer_bytes() +
                           missing.host_page * layout.page_bytes() +
                           missing.kv_head * layout.head_bytes();
      for (int64_t row = 0; row < 2 * kPageTokens; ++row) {
        if ((missing.tokens >> (row % kPageTokens) & 1) == 0) continue;
        std::copy_n(pool.begin() + from + row * token_bytes, token_bytes,
                    runs.begin() + missing.run * layout.head_bytes() +
                        row * token_bytes);
      }
    }
  }
  return runs;
}

void ExpectGathered(cuda_sim::SimDevice& device, const GatherCase& c,
                    int64_t num_blocks) {
  if (testing::Test::HasFailure()) return;  // the device works no more
  const KvLayout& layout = c.layout;
  std::vector<std::byte> values(static_cast<size_t>(layout.total_bytes()));
  std::mt19937 random(1);
  for (std::byte& value : values) value = static_cast<std::byte>(random());
  auto* const pool = device.Pinned<std::byte>(values.size());
  std::ranges::copy(values, pool);
  for (int64_t layer = 0;
       layer < layout.num_layers && !testing::Test::HasFailure(); ++layer) {
    std::byte* const runs = device.Upload(std::vector<std::byte>(
        static_cast<size_t>(c.num_runs * layout.head_bytes()), kUntouched));
    ASSERT_EQ(
        LaunchGatherRuns(
            {.missing = device.Upload(c.missing),
             .num_missing = device.Upload(c.num_missing),
             .num_lists = c.num_lists,
             .most_missing = c.most_missing,
             .pool = MakePagedKv({pool + layer * layout.layer_bytes(), layout}),
             .runs = runs,
             .num_blocks = num_blocks},
            device.stream()),
        cudaSuccess);
    EXPECT_EQ(device.Download(
                  runs, static_cast<size_t>(c.num_runs * layout.head_bytes())),
              Expected(c, values, layer))
        << "layer " << layer;
  }
}

TEST(CudaGather, CopiesTheChosenTokensAndNothingElse) {
  std::mt19937 random(2);
  for (const int64_t dim : {8, 40, 64, 128, 256}) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      SCOPED_TRACE(fmt::format("dim {} {}", dim, Name(dtype)));
      const GatherCase c = RandomCase({.num_layers = 2,
                                       .num_pages = 7,
                                       .num_kv_heads = 3,
                                       .head_dim = dim,
                                       .dtype = dtype},
                                      4, 9, random);
      ForSeeds(dim == 40 ? 20 : 2, [&](cuda_sim::SimDevice& device) {
        for (const int64_t num_blocks : {1, 3}) {
          ExpectGathered(device, c, num_blocks);
        }
      });
    }
  }
}

// More lists than threads, most of them empty; nothing at all; everything.
TEST(CudaGather, SharesManyListsAmongBlocks) {
  const KvLayout layout = {.num_layers = 1,
                           .num_pages = 5,
                           .num_kv_heads = 2,
                           .head_dim = 16,
                           .dtype = DType::kBF16};
  std::mt19937 random(3);
  GatherCase c = RandomCase(layout, 600, 3, random);
  for (size_t i = 0; i < c.num_missing.size(); ++i) {
    if (i % 5 != 0) c.num_missing[i] = 0;
  }
  GatherCase empty = RandomCase(layout, 3, 4, random);
  std::ranges::fill(empty.num_missing, 0);
  GatherCase all = RandomCase(layout, 1, 40, random);
  all.num_missing[0] = 40;
  for (int32_t i = 0; i < 40; ++i) {
    all.missing[static_cast<size_t>(i)] = {i % 5, i % 2, 39 - i, 0xffff};
  }
  ForSeeds(3, [&](cuda_sim::SimDevice& device) {
    ExpectGathered(device, c, 8);
    ExpectGathered(device, empty, 4);
    ExpectGathered(device, all, 2);
  });
}

// What is read over the bus is what was chosen, once.
TEST(CudaGather, ReadsEveryByteOnce) {
  const KvLayout layout = {.num_layers = 1,
                           .num_pages = 64,
                           .num_kv_heads = 1,
                           .head_dim = 128,
                           .dtype = DType::kBF16};
  GatherCase c = {layout, 2, 32, 64, {32, 20}, {}};
  for (int32_t i = 0; i < 64; ++i) {
    c.missing.push_back({i, 0, 63 - i, 0x01f8});  // 6 tokens
  }
  ForSeeds(1, [&](cuda_sim::SimDevice& device) {
    ExpectGathered(device, c, 4);
    const int64_t kv_bytes = 52 * 6 * 2 * 256;
    for (const cuda_sim::OperationCount& count : cuda_sim::OperationCounts()) {
      if (count.name != "GatherRunsKernel") continue;
      EXPECT_EQ(count.launches, 1);
      EXPECT_EQ(count.bytes_written, kv_bytes);
      EXPECT_EQ(count.bytes_read, kv_bytes + 2 * 4 + 52 * 16);
      return;
    }
    FAIL() << "the kernel did not run";
  });
}

TEST(CudaGather, RefusesWhatItCannotCopy) {
  ForSeeds(1, [](cuda_sim::SimDevice& device) {
    GatherRunsLaunch launch = {.num_lists = 1};
    launch.pool.head_dim = 12;
    launch.pool.dtype = DType::kBF16;
    EXPECT_EQ(LaunchGatherRuns(launch, device.stream()), cudaErrorInvalidValue);
    launch.pool.head_dim = 16;
    launch.num_lists = 4097;
    EXPECT_EQ(LaunchGatherRuns(launch, device.stream()), cudaErrorInvalidValue);
    launch.num_lists = 0;
    EXPECT_EQ(LaunchGatherRuns(launch, device.stream()), cudaSuccess);
  });
}

}  // namespace
}  // namespace sentencekv
