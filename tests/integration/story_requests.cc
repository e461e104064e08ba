#include "tests/integration/story_requests.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "server/client/answer.h"

namespace sentencekv {
namespace {

std::string TextOf(const Story& story) {
  std::string text;
  const int num_shared = story.num_sentences * 2 / 3;
  for (int i = 0; i < story.num_sentences; ++i) {
    const bool is_shared = i < num_shared;
    text += (is_shared ? "Boat " : "Ship ") +
            std::to_string(story.number * 100 +
                           (is_shared ? i : story.ending * i)) +
            " sails far away. ";
  }
  return text;
}

template <typename LogprobsOfTokens>
void Append(const LogprobsOfTokens& more, ToldTokens* tokens) {
  for (const v1::TokenLogprobs& token : more) {
    const float logprob = token.chosen().logprob();
    float runner_up = logprob;
    for (const v1::Logprob& other : token.top()) {
      if (other.token_id() != token.chosen().token_id()) {
        runner_up = other.logprob();
        break;
      }
    }
    tokens->push_back({token.chosen().token_id(), logprob, runner_up});
  }
}

}  // namespace

v1::GenerateRequest StoryRequest(const std::string& policy, const Story& story,
                                 int32_t max_tokens) {
  v1::GenerateRequest request = GreedyRequest({}, max_tokens);
  request.set_text(TextOf(story));
  request.mutable_output()->set_logprobs(0);
  request.mutable_kv()->set_policy(policy);
  if (policy == "sentence-paper") {
    request.mutable_kv()->set_token_budget(80);
    request.mutable_kv()->set_semantic_factor(1);
  } else if (policy == "sentence") {
    request.mutable_kv()->set_token_budget(40);
    request.mutable_kv()->set_dense_tokens(0);
  }
  return request;
}

ToldTokens Ask(ServerProcess& server, const v1::GenerateRequest& request) {
  const auto context = server.connection().NewContext();
  const Answer answer =
      ReadAnswer(server.connection().stub(), *context, request, nullptr);
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  ToldTokens tokens;
  Append(answer.logprobs, &tokens);
  return tokens;
}

std::vector<ToldTokens> AskAtOnce(
    ServerProcess& server, const std::vector<v1::GenerateRequest>& requests) {
  std::vector<ToldTokens> answers(requests.size());
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] { answers[i] = Ask(server, requests[i]); });
  }
  threads.clear();
  return answers;
}

ToldTokens AskAndHangUp(ServerProcess& server, v1::GenerateRequest request,
                        int32_t max_tokens, size_t count) {
  request.mutable_stop()->set_max_tokens(max_tokens);
  const auto context = server.connection().NewContext();
  const auto reader =
      server.connection().stub().Generate(context.get(), request);
  ToldTokens tokens;
  v1::GenerateResponse message;
  while (tokens.size() < count && reader->Read(&message)) {
    Append(message.logprobs(), &tokens);
  }
  context->TryCancel();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  tokens.resize(std::min(tokens.size(), count));
  return tokens;
}

}  // namespace sentencekv
