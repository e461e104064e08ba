// Greedy requests on made-up stories that begin alike, and ways to ask them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sentencekv/v1/sentencekv.pb.h"
#include "tests/integration/server_process.h"

namespace sentencekv {

// One token of an answer; `runner_up` is the second likeliest's log-probability
// where the request asked for alternatives, else that of the token.
struct ToldToken {
  int32_t id = 0;
  float logprob = 0;
  float runner_up = 0;
  bool operator==(const ToldToken&) const = default;
};
using ToldTokens = std::vector<ToldToken>;

// Sentences of 27 tokens or so; stories of the same number are the same but for
// the last third, which `ending` sets.
struct Story {
  int number = 0;
  int ending = 0;
  int num_sentences = 14;
};

// With budgets small enough to leave sentences out: `policy` is "full",
// "sentence" or "sentence-paper". Log-probabilities are asked for.
v1::GenerateRequest StoryRequest(const std::string& policy, const Story& story,
                                 int32_t max_tokens);

// The whole answer; fails the test when it is an error.
ToldTokens Ask(ServerProcess& server, const v1::GenerateRequest& request);
// All at once, each on a thread of its own.
std::vector<ToldTokens> AskAtOnce(
    ServerProcess& server, const std::vector<v1::GenerateRequest>& requests);
// Wants `max_tokens` and hangs up after `count`, which it returns.
ToldTokens AskAndHangUp(ServerProcess& server, v1::GenerateRequest request,
                        int32_t max_tokens, size_t count);

}  // namespace sentencekv
