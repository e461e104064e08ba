// What the index of a sequence costs, and that growing keeps what it has.
#include <cstring>

#include "cache/sentence_index.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"

namespace sentencekv {
namespace {

constexpr ModelShape kShape = {
    .num_layers = 3, .num_heads = 4, .num_kv_heads = 2, .head_dim = 64};
constexpr int64_t kHeads = kShape.num_layers * kShape.num_kv_heads;
constexpr int64_t kSentenceTokens = 19;  // of English prose

class SentenceIndexMemory : public testing::Test {
 protected:
  const std::unique_ptr<Backend> backend_ =
      MakeCpuBackend({.num_threads = 1}).value();
};

// Bytes of 16-bit K and V.
int64_t KvBytes(int64_t num_tokens) {
  return num_tokens * kHeads * kShape.head_dim * 2 * 2;
}

TEST_F(SentenceIndexMemory, StaysWithinItsShare) {
  const struct {
    SentenceIndexKind kind;
    double most;
  } kinds[] = {{SentenceIndexKind::kMean, 0.02},
               {SentenceIndexKind::kMinMax, 0.04},
               {SentenceIndexKind::kSign, 0.07}};
  for (const auto& [kind, most] : kinds) {
    SentenceIndex index(kShape, kind);
    for (int64_t entries = 1; entries <= 7000; ++entries) {
      const int64_t tokens = entries * kSentenceTokens;
      ASSERT_TRUE(index.Reserve(*backend_, entries, tokens).ok());
      if (tokens < 4096) continue;  // read as a whole
      const double bytes = static_cast<double>(
          index.size_bytes() +
          entries * kHeads * static_cast<int64_t>(sizeof(float)));
      ASSERT_LE(bytes / static_cast<double>(KvBytes(tokens)), most)
          << "kind " << static_cast<int>(kind) << ", " << entries << " entries";
    }
  }
}

TEST_F(SentenceIndexMemory, KeepsWhatIsThereAndAddsZeros) {
  constexpr int64_t kUnit = 24;
  PerHeadMemory memory(kShape, kUnit, 2);
  ASSERT_TRUE(memory.Reserve(*backend_, 3).ok());
  for (int64_t head = 0; head < kHeads; ++head) {
    std::memset(memory.at(head / 2, head % 2), static_cast<int>(head + 1),
                3 * kUnit);
  }
  for (const int64_t units : {2, 3, 4, 50}) {
    ASSERT_TRUE(memory.Reserve(*backend_, units).ok());
    for (int64_t head = 0; head < kHeads; ++head) {
      const std::byte* at = memory.at(head / 2, head % 2);
      for (int64_t i = 0; i < memory.stride(); ++i) {
        ASSERT_EQ(static_cast<int64_t>(at[i]), i < 3 * kUnit ? head + 1 : 0)
            << units << " units, head " << head << ", byte " << i;
      }
    }
  }
}

}  // namespace
}  // namespace sentencekv
