// The policy sentence as a client asks for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/server_process.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tensors.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

v1::GenerateRequest Request(int prompt_tokens) {
  TinyRandom random(3);
  std::vector<int32_t> prompt(static_cast<size_t>(prompt_tokens));
  for (int32_t& id : prompt) id = static_cast<int32_t>(random.Next() % 200);
  v1::GenerateRequest request = GreedyRequest(prompt, 24);
  request.mutable_kv()->set_policy("sentence");
  request.mutable_kv()->set_dense_tokens(0);
  return request;
}

class SentencePolicyDaemon : public testing::Test {
 protected:
  Answer Ask(const v1::GenerateRequest& request) {
    const auto context = server_.connection().NewContext();
    return ReadAnswer(server_.connection().stub(), *context, request, nullptr);
  }
  std::vector<int32_t> Ids(const v1::GenerateRequest& request) {
    const Answer answer = Ask(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return {answer.token_ids.begin(), answer.token_ids.end()};
  }
  // Log-probabilities of the prompt's tokens; how many of them were not
  // computed.
  std::vector<float> Logprobs(v1::GenerateRequest request,
                              int64_t* cached_tokens = nullptr) {
    request.mutable_output()->set_prompt_logprobs(true);
    const Answer answer = Ask(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    std::vector<float> logprobs;
    for (const v1::Logprob& one : answer.prompt_logprobs) {
      logprobs.push_back(one.logprob());
    }
    if (cached_tokens != nullptr) {
      *cached_tokens = answer.finish->usage().cached_tokens();
    }
    return logprobs;
  }

  ServerProcess server_{WriteTinyGguf(MakeTinyModel({.context_length = 2048})),
                        {"--max_step_tokens", "48"}};
};

TEST_F(SentencePolicyDaemon, ServesEveryKindOfIndex) {
  v1::GenerateRequest request = Request(400);
  request.mutable_kv()->clear_dense_tokens();
  const std::vector<int32_t> dense = Ids(request);  // a short context
  request.mutable_kv()->set_policy("full");
  EXPECT_EQ(Ids(request), dense);
  request = Request(400);
  request.mutable_kv()->set_token_budget(32);
  for (const char* kind : {"mean", "minmax", "sign"}) {
    request.mutable_kv()->set_index_kind(kind);
    const std::vector<int32_t> ids = Ids(request);
    EXPECT_EQ(ids.size(), 24u);
    // The prompt's pages are found again; its entries are made anew.
    EXPECT_EQ(Ids(request), ids) << kind;
  }
}

// Tokens of a prompt that are read as if they had been generated.
TEST_F(SentencePolicyDaemon, ForcedTokensAreReadUnderThePolicy) {
  v1::GenerateRequest request = Request(400);
  request.mutable_kv()->set_token_budget(1000);
  const std::vector<float> whole = Logprobs(request);
  ASSERT_EQ(whole.size(), 399u);
  request.mutable_kv()->set_forced_tokens(60);
  // Everything is read, and only the forced tokens are scored.
  const std::vector<float> last(whole.end() - 60, whole.end());
  EXPECT_EQ(Logprobs(request), last);
  request.mutable_kv()->set_token_budget(32);
  int64_t cached_tokens = 0;
  const std::vector<float> selected = Logprobs(request, &cached_tokens);
  ASSERT_EQ(selected.size(), 60u);
  // All of the prompt before them but the queries of the prior.
  EXPECT_EQ(cached_tokens, 400 - 60 - 32);
  // The row of the last exact token scores the first forced one.
  EXPECT_EQ(selected[0], last[0]);
  int different = 0;
  for (size_t i = 1; i < 60; ++i) different += selected[i] != last[i];
  EXPECT_GT(different, 50);
}

// An operator's choices hold where a request says nothing.
TEST_F(SentencePolicyDaemon, TakesTheServersDefaults) {
  v1::GenerateRequest request = Request(400);
  request.mutable_kv()->set_token_budget(32);
  request.mutable_kv()->set_index_kind("minmax");
  const std::vector<int32_t> named = Ids(request);
  ServerProcess server(
      WriteTinyGguf(MakeTinyModel({.context_length = 2048})),
      {"--kv_policy", "sentence", "--sentence_token_budget", "32",
       "--sentence_dense_tokens", "0", "--sentence_index_kind", "minmax"});
  request.clear_kv();
  const auto context = server.connection().NewContext();
  const Answer answer =
      ReadAnswer(server.connection().stub(), *context, request, nullptr);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(
      std::vector<int32_t>(answer.token_ids.begin(), answer.token_ids.end()),
      named);
  EXPECT_LT(answer.finish->usage().tokens_attended_per_step(), 200);
}

TEST_F(SentencePolicyDaemon, RefusesWhatItDoesNotTake) {
  const auto refusal = [&](void (*spoil)(v1::GenerateRequest&)) {
    v1::GenerateRequest request = Request(40);
    spoil(request);
    const Answer answer = Ask(request);
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return answer.status.error_message();
  };
  EXPECT_THAT(refusal([](auto& r) { r.mutable_kv()->set_index_kind("box"); }),
              HasSubstr("must be mean, minmax or sign, got 'box'"));
  EXPECT_THAT(refusal([](auto& r) { r.mutable_kv()->set_forced_tokens(40); }),
              HasSubstr("kv.forced_tokens: must be in 0..39"));
  EXPECT_THAT(refusal([](auto& r) { r.mutable_kv()->set_policy("full"); }),
              HasSubstr("kv.dense_tokens: only policy sentence"));
}

}  // namespace
}  // namespace sentencekv
