#include "engine/request_validation.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sentencekv {
namespace {

using ::testing::StartsWith;

constexpr RequestLimits kLimits = {.vocab_size = 100, .max_request_tokens = 50};

GenerateRequest ValidRequest() {
  GenerateRequest request;
  request.prompt = {0, 99};
  return request;
}

TEST(RequestValidation, ChecksThePromptsLength) {
  struct Case {
    size_t tokens;
    bool valid;
  };
  for (const Case& c :
       {Case{0, false}, {1, true}, {49, true}, {50, false}, {100000, false}}) {
    GenerateRequest request;
    request.prompt.assign(c.tokens, 1);
    const absl::Status status = ValidatePromptLength(request, kLimits);
    EXPECT_EQ(status.ok(), c.valid) << c.tokens;
    if (!c.valid) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(status.message(), "prompt: must have 1 .. 49 tokens, has " +
                                      std::to_string(c.tokens));
    }
  }
}

TEST(RequestValidation, RefusesEachFieldByItsName) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  struct Case {
    const char* field;
    std::function<void(GenerateRequest&)> spoil;
  };
  const Case cases[] = {
      {"sampling.temperature", [&](auto& r) { r.sampling.temperature = nan; }},
      {"sampling.temperature", [&](auto& r) { r.sampling.temperature = -1; }},
      {"sampling.temperature",
       [&](auto& r) { r.sampling.temperature = infinity; }},
      {"sampling.top_k", [&](auto& r) { r.sampling.top_k = -1; }},
      {"sampling.top_p", [&](auto& r) { r.sampling.top_p = 0; }},
      {"sampling.top_p", [&](auto& r) { r.sampling.top_p = 1.01f; }},
      {"sampling.top_p", [&](auto& r) { r.sampling.top_p = nan; }},
      {"sampling.min_p", [&](auto& r) { r.sampling.min_p = -0.1f; }},
      {"sampling.min_p", [&](auto& r) { r.sampling.min_p = 1.1f; }},
      {"sampling.repetition_penalty",
       [&](auto& r) { r.sampling.repetition_penalty = 0; }},
      {"sampling.repetition_penalty",
       [&](auto& r) { r.sampling.repetition_penalty = nan; }},
      {"sampling.frequency_penalty",
       [&](auto& r) { r.sampling.frequency_penalty = infinity; }},
      {"sampling.presence_penalty",
       [&](auto& r) { r.sampling.presence_penalty = -infinity; }},
      {"sampling.logit_bias",
       [&](auto& r) {
         r.sampling.logit_bias = {{100, 1.0f}};
       }},
      {"sampling.logit_bias",
       [&](auto& r) {
         r.sampling.logit_bias = {{-1, 1.0f}};
       }},
      {"sampling.logit_bias",
       [&](auto& r) {
         r.sampling.logit_bias = {{5, nan}};
       }},
      {"stop.max_tokens", [&](auto& r) { r.stop.max_tokens = -1; }},
      {"stop.min_tokens", [&](auto& r) { r.stop.min_tokens = -1; }},
      {"stop.stop_token_ids", [&](auto& r) { r.stop.stop_token_ids = {100}; }},
      {"stop.stop_token_ids", [&](auto& r) { r.stop.stop_token_ids = {-5}; }},
      {"output.logprobs", [&](auto& r) { r.output.num_logprobs = -2; }},
      {"output.logprobs", [&](auto& r) { r.output.num_logprobs = 101; }},
      {"prompt",
       [&](auto& r) {
         r.prompt = {1, -1};
       }},
      {"prompt",
       [&](auto& r) {
         r.prompt = {1, 100};
       }},
  };
  ASSERT_TRUE(ValidateRequest(ValidRequest(), kLimits).ok());
  for (const Case& c : cases) {
    GenerateRequest request = ValidRequest();
    c.spoil(request);
    const absl::Status status = ValidateRequest(request, kLimits);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.field;
    EXPECT_THAT(std::string(status.message()),
                StartsWith(std::string(c.field) + ":"));
  }
}

TEST(RequestValidation, TakesTheEdges) {
  GenerateRequest request = ValidRequest();
  request.sampling.temperature = 0;
  request.sampling.top_k = INT32_MAX;
  request.sampling.top_p = 1;
  request.sampling.min_p = 1;
  request.sampling.logit_bias = {{0, -100.0f}, {99, 100.0f}};
  request.stop.max_tokens = INT32_MAX;
  request.stop.min_tokens = INT32_MAX;
  request.stop.stop_token_ids = {0, 99};
  request.output.num_logprobs = 100;
  EXPECT_TRUE(ValidateRequest(request, kLimits).ok());
}

}  // namespace
}  // namespace sentencekv
