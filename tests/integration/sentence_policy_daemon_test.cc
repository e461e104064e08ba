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
  // Log-probabilities of the prompt's tokens.
  std::vector<float> Logprobs(v1::GenerateRequest request) {
    request.mutable_output()->set_prompt_logprobs(true);
    const auto context = server_.connection().NewContext();
    const auto reader =
        server_.connection().stub().Generate(context.get(), request);
    std::vector<float> logprobs;
    for (v1::GenerateResponse message; reader->Read(&message);) {
      for (const v1::Logprob& one : message.prompt_logprobs()) {
        logprobs.push_back(one.logprob());
      }
    }
    EXPECT_TRUE(reader->Finish().ok());
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
  EXPECT_EQ(Logprobs(request), whole);  // everything is read
  request.mutable_kv()->set_token_budget(32);
  const std::vector<float> selected = Logprobs(request);
  ASSERT_EQ(selected.size(), 399u);
  // The row of the last exact token scores the first forced one.
  for (size_t i = 0; i < 340; ++i) EXPECT_EQ(selected[i], whole[i]) << i;
  int different = 0;
  for (size_t i = 340; i < 399; ++i) different += selected[i] != whole[i];
  EXPECT_GT(different, 50);
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
