// A model that serves takes no memory from the driver, whatever its requests
// take and give back. Simulated device only.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cache/sentence_policy.h"
#include "gtest/gtest.h"
#include "tests/cuda/small_backend.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"
#include "tests/support/model_runner.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

std::unique_ptr<Backend> MakeBackend() {
  return MakeSmallBackend(size_t{64} << 10, size_t{256} << 10);
}

// Calls that take memory from the driver, or give it back.
int64_t NumDriverAllocations() {
  int64_t calls = 0;
  for (const char* call :
       {"cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaMallocHost",
        "cudaFreeHost", "cudaHostRegister", "cudaHostUnregister"}) {
    calls += cuda_sim::CallsOf(call);
  }
  return calls;
}

// Sentences of four tokens.
std::vector<int32_t> Sentences(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += {static_cast<char>('a' + i % 26), static_cast<char>('a' + i % 7),
             '.', ' '};
  }
  return {text.begin(), text.end()};
}

TEST(ServingMemoryTest, NothingIsAskedOfTheDriver) {
  cuda_sim::Reset({});
  {
    const ByteTokenizer tokenizer;
    ModelRunner runner(
        WriteTinyGguf(MakeTinyModel(
            {.width = 32, .ffn_width = 32, .num_heads = 2, .num_kv_heads = 1})),
        {.num_pages = 64,
         .kv_dtype = DType::kBF16,
         .load = {.max_tokens_per_step = 128},
         .context_length = 400,
         .make_backend = &MakeBackend,
         .num_frames = 60});
    const auto policy = MakeSentencePolicy({.tokenizer = &tokenizer,
                                            .shape = {.num_layers = 2,
                                                      .num_heads = 2,
                                                      .num_kv_heads = 1,
                                                      .head_dim = 16}});
    const KvOptions options = {.token_budget = 40,
                               .index_kind = SentenceIndexKind::kSign,
                               .query_blend = 0.5,
                               .dense_tokens = 0};
    const auto held = [&](MemoryUse use) {
      return runner.backend()
          .memory_budget()
          .held_bytes[static_cast<size_t>(use)];
    };
    EXPECT_EQ(cuda_sim::CallsOf("cudaMalloc"), 1);
    EXPECT_GT(held(MemoryUse::kWeights), 0u);
    EXPECT_GT(held(MemoryUse::kActivations), 0u);
    EXPECT_GT(held(MemoryUse::kKeysAndValues), 0u);
    EXPECT_EQ(held(MemoryUse::kSentenceIndex), 0u);
    const int64_t calls_before = NumDriverAllocations();

    // More sentences than an index has room for at first: it grows.
    for (const int num_sentences : {10, 80, 20}) {
      const std::vector<int32_t> tokens = Sentences(num_sentences);
      const auto num_prompt = static_cast<int64_t>(tokens.size()) - 12;
      const size_t sequence = runner.Add(*policy, options, num_prompt);
      const std::span<const int32_t> all(tokens);
      runner.RunAll(sequence, all.first(num_prompt), 64);
      runner.RunAll(sequence, all.subspan(num_prompt), 1);
      EXPECT_GT(held(MemoryUse::kSentenceIndex), 0u);
      runner.End(sequence);
      runner.sequence(sequence).policy_state.reset();
      EXPECT_EQ(held(MemoryUse::kSentenceIndex), 0u);
    }
    EXPECT_EQ(NumDriverAllocations(), calls_before);
  }
  cuda_sim::ExpectNothingFound();
  EXPECT_EQ(cuda_sim::CountLiveObjects().device_bytes, 0);
}

}  // namespace
}  // namespace sentencekv
