// The policy sentence-paper as a client asks for it, beside full attention.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/integration/server_process.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tensors.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

v1::GenerateRequest Request(int prompt_tokens, const std::string& policy) {
  TinyRandom random(3);
  std::vector<int32_t> prompt(static_cast<size_t>(prompt_tokens));
  for (int32_t& id : prompt) id = static_cast<int32_t>(random.Next() % 200);
  v1::GenerateRequest request = GreedyRequest(prompt, 24);
  request.mutable_kv()->set_policy(policy);
  if (policy == "sentence-paper") {
    request.mutable_kv()->set_token_budget(66);
    request.mutable_kv()->set_semantic_factor(1);
  }
  return request;
}

Answer Ask(ServerProcess& server, const v1::GenerateRequest& request) {
  const auto context = server.connection().NewContext();
  return ReadAnswer(server.connection().stub(), *context, request, nullptr);
}

TEST(PaperPolicyDaemon, ServesItBesideFull) {
  ServerProcess server(WriteTinyGguf(MakeTinyModel({.tied_output = false})),
                       {"--max_step_tokens", "48"});
  const v1::GenerateRequest full = Request(200, "full");
  const v1::GenerateRequest paper = Request(200, "sentence-paper");
  const Answer full_alone = Ask(server, full);
  const Answer paper_alone = Ask(server, paper);
  ASSERT_TRUE(full_alone.status.ok()) << full_alone.status.error_message();
  ASSERT_TRUE(paper_alone.status.ok()) << paper_alone.status.error_message();
  EXPECT_EQ(paper_alone.token_ids.size(), 24u);
  EXPECT_NE(paper_alone.token_ids, full_alone.token_ids);
  Answer full_beside, paper_beside;
  {
    std::jthread first([&] { full_beside = Ask(server, full); });
    std::jthread second([&] { paper_beside = Ask(server, paper); });
  }
  EXPECT_EQ(full_beside.token_ids, full_alone.token_ids);
  EXPECT_EQ(paper_beside.token_ids, paper_alone.token_ids);
  // 40 and 24 tokens: the first and the last 32 are everything.
  EXPECT_EQ(Ask(server, Request(40, "sentence-paper")).token_ids,
            Ask(server, Request(40, "full")).token_ids);
}

TEST(PaperPolicyDaemon, TakesItAsTheDefault) {
  const std::string model =
      WriteTinyGguf(MakeTinyModel({.tied_output = false}));
  ServerProcess server(model, {"--kv_policy", "sentence-paper"});
  v1::GenerateRequest request = Request(200, "sentence-paper");
  const Answer named = Ask(server, request);
  request.mutable_kv()->clear_policy();
  EXPECT_EQ(Ask(server, request).token_ids, named.token_ids);
  request.mutable_kv()->set_token_budget(63);
  const Answer refused = Ask(server, request);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.status.error_message(),
              HasSubstr("kv.token_budget: policy sentence-paper needs 64"));
}

}  // namespace
}  // namespace sentencekv
