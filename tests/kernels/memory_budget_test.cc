#include "kernels/memory_budget.h"

#include "gtest/gtest.h"

namespace sentencekv {
namespace {

TEST(MemoryBudgetTest, SizesAreReadable) {
  EXPECT_EQ(ByteSizeText(0), "0 bytes");
  EXPECT_EQ(ByteSizeText(1023), "1023 bytes");
  EXPECT_EQ(ByteSizeText(1536), "1.5 KiB");
  EXPECT_EQ(ByteSizeText((size_t{1} << 20) - 1), "1.0 MiB");
  EXPECT_EQ(ByteSizeText(size_t{15} << 30), "15.0 GiB");
  EXPECT_EQ(ByteSizeText(size_t{5000} << 30), "5000.0 GiB");
}

TEST(MemoryBudgetTest, SaysWhatHoldsMemory) {
  MemoryBudget budget;
  budget.total_bytes = size_t{80} << 30;
  budget.free_bytes = size_t{63} << 30;
  budget.held_bytes[static_cast<size_t>(MemoryUse::kWeights)] = size_t{15}
                                                                << 30;
  budget.held_bytes[static_cast<size_t>(MemoryUse::kKeysAndValues)] = size_t{2}
                                                                      << 30;
  EXPECT_EQ(MemoryBudgetText(budget),
            "weights 15.0 GiB, K and V 2.0 GiB, free 63.0 GiB of 80.0 GiB");
  budget.releasing_bytes = 2048;
  budget.pinned_host_bytes = size_t{8} << 20;
  EXPECT_EQ(MemoryBudgetText(budget),
            "weights 15.0 GiB, K and V 2.0 GiB, given back but in use by "
            "copies 2.0 KiB, free 63.0 GiB of 80.0 GiB; pinned host memory "
            "8.0 MiB");
}

}  // namespace
}  // namespace sentencekv
