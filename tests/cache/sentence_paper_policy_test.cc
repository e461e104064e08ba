// What of sentence-paper needs no model; tests/engine/paper_policy_test.cc has
// the rest.
#include "cache/sentence_paper_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/byte_tokenizer.h"
#include "tests/support/memory_backend.h"
#include "tests/support/scripted_model.h"

namespace sentencekv {
namespace {

TEST(SentencePaper, EndsSentencesAtTheMarksThatAreTokens) {
  EXPECT_THAT(PaperSentenceEnds(ByteTokenizer()),
              testing::ElementsAre('.', '!', '?'));
}

// The queries of the last 32 tokens of a prompt must be computed.
TEST(SentencePaper, RefusesReuseThatReachesIntoTheWindow) {
  MemoryBackend backend;
  const auto pool = *PagePool::Create(backend, ScriptedModel::Layout(8));
  const auto memory = MakeInPlaceKvMemory(*pool);
  const auto policy = MakeSentencePaperPolicy({1, 1, 1, 8}, {'.'});
  EXPECT_EQ(policy->num_replayed(), 32);
  const std::vector<int32_t> tokens(60, 'a');
  const auto reuse = [&](int64_t num_prompt, size_t count) {
    CachedSequence sequence;
    sequence.num_prompt = num_prompt;
    sequence.policy_state = policy->NewState({});
    return policy->OnReuse(*memory, sequence, std::span(tokens).first(count))
        .code();
  };
  EXPECT_EQ(reuse(92, 60), absl::StatusCode::kOk);
  EXPECT_EQ(reuse(91, 60), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(reuse(20, 0), absl::StatusCode::kOk);
  EXPECT_EQ(reuse(20, 1), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace sentencekv
