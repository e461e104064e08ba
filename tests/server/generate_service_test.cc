#include "server/generate_service.h"

#include <random>
#include <thread>

#include "absl/synchronization/notification.h"
#include "tests/server/server_fixture.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class GenerateTest : public ServerFixture {};

TEST_F(GenerateTest, StreamsWhatTheEnginePublishes) {
  AnswerHello();
  const Answer answer = Generate(TextRequest("abc"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, "Hello");
  ASSERT_FALSE(answer.messages.empty());
  const v1::GenerateResponse& last = answer.messages.back();
  EXPECT_EQ(last.finish().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(last.finish().usage().prompt_tokens(), 3);
  EXPECT_DOUBLE_EQ(last.finish().usage().total_seconds(), 0.25);
  std::vector<int32_t> ids;
  for (const v1::GenerateResponse& message : answer.messages) {
    EXPECT_EQ(message.request_id(), "fake-0");
    ids.insert(ids.end(), message.token_ids().begin(),
               message.token_ids().end());
  }
  EXPECT_THAT(ids, ElementsAre(72, 111));
  EXPECT_EQ(answer.echoed_id, "fake-0");
}

TEST_F(GenerateTest, PassesEveryFieldToTheEngine) {
  AnswerHello();
  v1::GenerateRequest request = TextRequest("hi");
  request.set_model("fake-model");
  request.set_request_id("my-id");
  v1::SamplingParams& sampling = *request.mutable_sampling();
  sampling.set_temperature(0.5f);
  sampling.set_top_p(0.25f);
  sampling.set_top_k(7);
  sampling.set_min_p(0.125f);
  sampling.set_repetition_penalty(1.5f);
  sampling.set_frequency_penalty(-2);
  sampling.set_presence_penalty(3);
  sampling.set_seed(0xFFFFFFFFFFFFFFFFu);
  (*sampling.mutable_logit_bias())[9] = -1;
  (*sampling.mutable_logit_bias())[3] = 4;
  v1::StopParams& stop = *request.mutable_stop();
  stop.set_max_tokens(40);
  stop.set_min_tokens(2);
  stop.add_stop_strings("\n\n");
  stop.add_stop_token_ids(11);
  stop.set_ignore_eos(true);
  stop.set_include_stop_string(true);
  v1::OutputParams& output = *request.mutable_output();
  output.set_logprobs(0);
  output.set_echo(true);
  output.set_prompt_logprobs(true);
  output.set_render_special(true);
  request.mutable_kv()->set_policy("sentence");
  request.mutable_kv()->set_token_budget(99);
  request.mutable_kv()->set_index_kind("minmax");
  request.mutable_kv()->set_prior(false);
  request.mutable_kv()->set_strict(false);
  request.mutable_kv()->set_head_budgets(false);
  request.mutable_kv()->set_prior_half_life(3);
  request.mutable_kv()->set_query_blend(0.25);
  request.mutable_kv()->set_sink_tokens(7);
  request.mutable_kv()->set_recent_tokens(8);
  request.mutable_kv()->set_dense_tokens(9);
  request.mutable_kv()->set_reuse_bonus(2);
  request.mutable_kv()->set_forced_tokens(1);
  request.mutable_kv()->set_bypass_prefix_cache(true);
  request.mutable_kv()->set_cache_salt("tenant");
  ASSERT_TRUE(Generate(request).status.ok());

  const GenerateRequest seen = engine_->submitted(0);
  EXPECT_EQ(seen.request_id, "my-id");
  EXPECT_THAT(seen.prompt, ElementsAre('h', 'i'));
  EXPECT_EQ(seen.sampling.temperature, 0.5f);
  EXPECT_EQ(seen.sampling.top_p, 0.25f);
  EXPECT_EQ(seen.sampling.top_k, 7);
  EXPECT_EQ(seen.sampling.min_p, 0.125f);
  EXPECT_EQ(seen.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(seen.sampling.frequency_penalty, -2);
  EXPECT_EQ(seen.sampling.presence_penalty, 3);
  EXPECT_EQ(seen.sampling.seed, 0xFFFFFFFFFFFFFFFFu);
  EXPECT_THAT(seen.sampling.logit_bias,
              ElementsAre(std::pair(3, 4.0f), std::pair(9, -1.0f)));
  EXPECT_EQ(seen.stop.max_tokens, 40);
  EXPECT_EQ(seen.stop.min_tokens, 2);
  EXPECT_THAT(seen.stop.stop_strings, ElementsAre("\n\n"));
  EXPECT_THAT(seen.stop.stop_token_ids, ElementsAre(11));
  EXPECT_TRUE(seen.stop.ignore_eos);
  EXPECT_TRUE(seen.stop.include_stop_string);
  EXPECT_EQ(seen.output.num_logprobs, 0);
  EXPECT_TRUE(seen.output.echo);
  EXPECT_TRUE(seen.output.prompt_logprobs);
  EXPECT_TRUE(seen.output.render_special);
  EXPECT_EQ(seen.kv.policy, "sentence");
  EXPECT_EQ(seen.kv.token_budget, 99);
  EXPECT_EQ(seen.kv.index_kind, SentenceIndexKind::kMinMax);
  EXPECT_EQ(seen.kv.prior, false);
  EXPECT_EQ(seen.kv.strict, false);
  EXPECT_EQ(seen.kv.head_budgets, false);
  EXPECT_EQ(seen.kv.prior_half_life, 3);
  EXPECT_EQ(seen.kv.query_blend, 0.25);
  EXPECT_EQ(seen.kv.sink_tokens, 7);
  EXPECT_EQ(seen.kv.recent_tokens, 8);
  EXPECT_EQ(seen.kv.dense_tokens, 9);
  EXPECT_EQ(seen.kv.reuse_bonus, 2);
  EXPECT_EQ(seen.kv.forced_tokens, 1);
  EXPECT_TRUE(seen.kv.bypass_prefix_cache);
  EXPECT_EQ(seen.kv.cache_salt, "tenant");
}

TEST_F(GenerateTest, UnsetFieldsTakeTheirDefaults) {
  AnswerHello();
  ASSERT_TRUE(Generate(TextRequest("hi")).status.ok());
  const GenerateRequest seen = engine_->submitted(0);
  const GenerateRequest defaults;
  EXPECT_EQ(seen.sampling.temperature, 1.0f);
  EXPECT_EQ(seen.sampling.top_p, 1.0f);
  EXPECT_EQ(seen.sampling.repetition_penalty, 1.0f);
  EXPECT_FALSE(seen.sampling.seed.has_value());
  EXPECT_EQ(seen.stop.max_tokens, defaults.stop.max_tokens);
  EXPECT_EQ(seen.output.num_logprobs, -1);
  EXPECT_EQ(seen.kv.policy, "full");
  EXPECT_EQ(seen.kv.index_kind, std::nullopt);
  EXPECT_EQ(seen.kv.prior, std::nullopt);
  EXPECT_EQ(seen.kv.strict, std::nullopt);
  EXPECT_EQ(seen.kv.forced_tokens, 0);
  EXPECT_FALSE(seen.kv.bypass_prefix_cache);
  EXPECT_EQ(seen.kv.cache_salt, "");
}

TEST_F(GenerateTest, MaxTokensBeyondTheContextAreClamped) {
  AnswerHello();
  v1::GenerateRequest request = TextRequest("hi");
  request.mutable_stop()->set_max_tokens(std::numeric_limits<int32_t>::max());
  ASSERT_TRUE(Generate(request).status.ok());
  EXPECT_EQ(engine_->submitted(0).stop.max_tokens, 1024);
}

TEST_F(GenerateTest, TakesTokenIdsAsTheyAre) {
  AnswerHello();
  v1::GenerateRequest request;
  for (int32_t id : {0, 259, 17}) request.mutable_token_ids()->add_ids(id);
  ASSERT_TRUE(Generate(request).status.ok());
  EXPECT_THAT(engine_->submitted(0).prompt, ElementsAre(0, 259, 17));
}

TEST_F(GenerateTest, ControlTokensInTextAreTextUnlessAsked) {
  AnswerHello();
  v1::GenerateRequest request = TextRequest("<|im_end|>");
  ASSERT_TRUE(Generate(request).status.ok());
  request.set_parse_special(true);
  ASSERT_TRUE(Generate(request).status.ok());
  EXPECT_EQ(engine_->submitted(0).prompt.size(), 10u);
  EXPECT_THAT(engine_->submitted(1).prompt,
              ElementsAre(ByteTokenizer::kTurnEnd));
}

TEST_F(GenerateTest, RendersChatInTheServersFormat) {
  AnswerHello();
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hi");
  request.mutable_chat()->set_assistant_prefix("So");
  ASSERT_TRUE(Generate(request).status.ok());
  EXPECT_EQ(tokenizer_.Decode(engine_->submitted(0).prompt, true),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nSo");
}

TEST_F(GenerateTest, LogprobsCarryBytes) {
  StreamEvent event = FakeEngine::TextEvent("a", {'a'});
  event.tokens[0].logprob = -0.5f;
  event.tokens[0].top_logprobs = {{'a', -0.5f}, {0xC3, -1.5f}};
  event.prompt_logprobs = {{'x', -2.0f}};
  engine_->AnswerWith({event, FakeEngine::FinishEvent(FinishReason::kLength)});
  const Answer answer = Generate(TextRequest("yx"));
  ASSERT_TRUE(answer.status.ok());
  const v1::GenerateResponse& first = answer.messages.front();
  ASSERT_EQ(first.logprobs_size(), 1);
  EXPECT_EQ(first.logprobs(0).chosen().token(), "a");
  EXPECT_EQ(first.logprobs(0).top(1).token(), "\xC3");
  EXPECT_FLOAT_EQ(first.logprobs(0).top(1).logprob(), -1.5f);
  ASSERT_EQ(first.prompt_logprobs_size(), 1);
  EXPECT_EQ(first.prompt_logprobs(0).token_id(), 'x');
  EXPECT_EQ(answer.messages.back().finish().reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(GenerateTest, EchoesRequestIdAndTraceparent) {
  AnswerHello();
  const std::string trace =
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const Answer answer = Generate(
      TextRequest("hi"), {{"x-request-id", "abc-1"}, {"traceparent", trace}});
  EXPECT_EQ(answer.echoed_id, "abc-1");
  EXPECT_EQ(answer.echoed_traceparent, trace);
  EXPECT_EQ(engine_->submitted(0).request_id, "abc-1");
  // The field wins over the header; a malformed traceparent is ignored.
  v1::GenerateRequest request = TextRequest("hi");
  request.set_request_id("field");
  const Answer other = Generate(
      request, {{"x-request-id", "header"}, {"traceparent", "00-xyz"}});
  EXPECT_EQ(other.echoed_id, "field");
  EXPECT_EQ(other.echoed_traceparent, "");
}

TEST_F(GenerateTest, RefusesAnInvalidRequestIdHeader) {
  const Answer answer =
      Generate(TextRequest("hi"), {{"x-request-id", "two words"}});
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(FieldsOf(answer.status), ElementsAre("metadata.x-request-id"));
  EXPECT_EQ(engine_->num_submitted(), 0u);
}

TEST_F(GenerateTest, AnUnknownModelIsNotFound) {
  v1::GenerateRequest request = TextRequest("hi");
  request.set_model("gpt-5");
  const Answer answer = Generate(request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(answer.status), "MODEL_NOT_FOUND");
  EXPECT_THAT(answer.status.error_message(), HasSubstr("fake-model"));
}

TEST_F(GenerateTest, ReportsEveryWrongFieldAtOnce) {
  v1::GenerateRequest request;
  request.mutable_sampling()->set_top_p(2);
  request.mutable_stop()->set_max_tokens(0);
  const Answer answer = Generate(request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(FieldsOf(answer.status),
              ElementsAre("input", "sampling.top_p", "stop.max_tokens"));
  EXPECT_EQ(ReasonOf(answer.status), "INVALID_REQUEST");
}

// What the engine refuses, and what the client gets.
struct RefusalCase {
  std::string name;
  absl::Status status;
  grpc::StatusCode code;
  std::string reason;
  int64_t retry_seconds;
};

void PrintTo(const RefusalCase& c, std::ostream* out) { *out << c.name; }

class RefusalTest : public ServerFixture,
                    public ::testing::WithParamInterface<RefusalCase> {};

TEST_P(RefusalTest, BecomesAStatusWithDetails) {
  engine_->RefuseNext(GetParam().status);
  const Answer answer = Generate(TextRequest("secret prompt"));
  EXPECT_EQ(answer.status.error_code(), GetParam().code);
  EXPECT_TRUE(answer.messages.empty());
  EXPECT_EQ(ReasonOf(answer.status), GetParam().reason);
  EXPECT_EQ(
      DetailOf<google::rpc::RetryInfo>(answer.status).retry_delay().seconds(),
      GetParam().retry_seconds);
  EXPECT_THAT(answer.status.error_message(), Not(HasSubstr("secret")));
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusalTest,
    ::testing::Values(
        RefusalCase{"QueueFull", absl::ResourceExhaustedError("queue"),
                    grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", 1},
        RefusalCase{"Draining", absl::UnavailableError("draining"),
                    grpc::StatusCode::UNAVAILABLE, "DRAINING", 5},
        RefusalCase{"Deadline", absl::DeadlineExceededError("late"),
                    grpc::StatusCode::DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED",
                    0},
        RefusalCase{"DuplicateId", absl::AlreadyExistsError("id"),
                    grpc::StatusCode::ALREADY_EXISTS, "REQUEST_ID_IN_USE", 0},
        RefusalCase{"TooLong", absl::InvalidArgumentError("too long"),
                    grpc::StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", 0},
        RefusalCase{"Broken", absl::InternalError("secret detail"),
                    grpc::StatusCode::INTERNAL, "INTERNAL", 0}),
    [](const auto& info) { return info.param.name; });

// How a request ends after acceptance, and the status that closes the stream.
struct EndCase {
  std::string name;
  FinishReason reason;
  v1::FinishReason wire_reason;
  grpc::StatusCode code;
};

void PrintTo(const EndCase& c, std::ostream* out) { *out << c.name; }

class EndTest : public ServerFixture,
                public ::testing::WithParamInterface<EndCase> {};

TEST_P(EndTest, SendsTheFinishThenTheStatus) {
  engine_->AnswerWith({FakeEngine::TextEvent("x", {'x'}),
                       FakeEngine::FinishEvent(GetParam().reason)});
  const Answer answer = Generate(TextRequest("hi"));
  EXPECT_EQ(answer.status.error_code(), GetParam().code);
  ASSERT_FALSE(answer.messages.empty());
  EXPECT_EQ(answer.text, "x");
  EXPECT_EQ(answer.messages.back().finish().reason(), GetParam().wire_reason);
}

INSTANTIATE_TEST_SUITE_P(
    All, EndTest,
    ::testing::Values(
        EndCase{"Stop", FinishReason::kStop, v1::FINISH_REASON_STOP,
                grpc::StatusCode::OK},
        EndCase{"Length", FinishReason::kLength, v1::FINISH_REASON_LENGTH,
                grpc::StatusCode::OK},
        EndCase{"Cancelled", FinishReason::kCancelled,
                v1::FINISH_REASON_CANCELLED, grpc::StatusCode::CANCELLED},
        EndCase{"Deadline", FinishReason::kDeadline, v1::FINISH_REASON_DEADLINE,
                grpc::StatusCode::DEADLINE_EXCEEDED},
        EndCase{"Error", FinishReason::kError, v1::FINISH_REASON_ERROR,
                grpc::StatusCode::INTERNAL}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace sentencekv
