#include "cache/memory_preparer.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/memory_backend.h"

namespace sentencekv {
namespace {

constexpr int64_t kPiece = 2 << 20;

// 8,400 pages of 768 bytes in each of two layers: 6 MiB and a bit.
class MemoryPreparerTest : public testing::Test {
 protected:
  MemoryPreparerTest() {
    layout_.num_layers = 2;
    layout_.num_pages = 8400;
    layout_.num_kv_heads = 3;
    layout_.head_dim = 4;
    memory_ = *backend_.Allocate(static_cast<size_t>(layout_.total_bytes()));
  }

  std::byte* layer(int64_t index) {
    return memory_.as<std::byte>() + index * layout_.layer_bytes();
  }
  // Checks that the ranges of a layer follow each other, and returns their
  // bytes.
  int64_t PreparedOf(int64_t index) {
    std::byte* end = layer(index);
    for (const std::span<std::byte> range : backend_.prepared()) {
      if (range.data() < layer(index) || range.data() >= layer(index + 1)) {
        continue;
      }
      EXPECT_EQ(range.data(), end);
      end = range.data() + range.size();
    }
    return end - layer(index);
  }

  MemoryBackend backend_;
  KvLayout layout_;
  Buffer memory_;
};

TEST_F(MemoryPreparerTest, StaysAheadOfWhatIsExpected) {
  MemoryPreparer preparer(backend_, layout_, layer(0));
  preparer.Wait();
  EXPECT_EQ(PreparedOf(0), 2 * kPiece);
  EXPECT_EQ(PreparedOf(1), 2 * kPiece);
  preparer.Expect(1);
  preparer.Wait();
  EXPECT_EQ(PreparedOf(0), 3 * kPiece);
  // Less than before changes nothing.
  preparer.Expect(0);
  preparer.Wait();
  EXPECT_EQ(PreparedOf(1), 3 * kPiece);
}

TEST_F(MemoryPreparerTest, PreparesThePoolOnceAndNothingBeyond) {
  MemoryPreparer preparer(backend_, layout_, layer(0));
  for (int64_t pages = 0; pages <= layout_.num_pages; pages += 700) {
    preparer.Expect(pages);
  }
  preparer.Expect(layout_.num_pages);
  preparer.Wait();
  EXPECT_EQ(PreparedOf(0), layout_.layer_bytes());
  EXPECT_EQ(PreparedOf(1), layout_.layer_bytes());
}

TEST_F(MemoryPreparerTest, StopsAtOnceWithWorkLeft) {
  for (int i = 0; i < 50; ++i) {
    MemoryPreparer preparer(backend_, layout_, layer(0));
    preparer.Expect(layout_.num_pages);
  }
}

}  // namespace
}  // namespace sentencekv
