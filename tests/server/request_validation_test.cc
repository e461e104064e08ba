#include "server/request_validation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr ServedLimits kLimits = {.vocab_size = 260,
                                  .max_request_tokens = 1024};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

v1::GenerateRequest ValidRequest() {
  v1::GenerateRequest request;
  request.set_text("hi");
  return request;
}

std::vector<std::string> Fields(const std::vector<FieldViolation>& violations) {
  std::vector<std::string> fields;
  for (const FieldViolation& violation : violations)
    fields.push_back(violation.field);
  return fields;
}

// Sets one number of a request.
using SetNumber = std::function<void(v1::GenerateRequest&, double)>;

struct NumberCase {
  std::string field;
  SetNumber set;
  std::vector<double> allowed;
  std::vector<double> refused;
};

void PrintTo(const NumberCase& c, std::ostream* out) { *out << c.field; }

// Every numeric field with both of its bounds and what lies just beyond.
std::vector<NumberCase> NumberCases() {
  const double above_one = std::nextafter(1.0f, 2.0f);
  const double below_zero = -std::numeric_limits<float>::denorm_min();
  const double above_hundred = std::nextafter(100.0f, 200.0f);
  const double int32_max = std::numeric_limits<int32_t>::max();
  const double int32_min = std::numeric_limits<int32_t>::min();
  const std::vector<double> never = {kNan, kInfinity, -kInfinity};
  const auto with_never = [&](std::vector<double> values) {
    values.insert(values.end(), never.begin(), never.end());
    return values;
  };
  return {
      {"sampling.temperature",
       [](auto& r, double v) { r.mutable_sampling()->set_temperature(v); },
       {0, 1, 100},
       with_never({below_zero, above_hundred})},
      {"sampling.top_p",
       [](auto& r, double v) { r.mutable_sampling()->set_top_p(v); },
       {std::numeric_limits<float>::denorm_min(), 1},
       with_never({0, below_zero, above_one})},
      {"sampling.top_k",
       [](auto& r, double v) { r.mutable_sampling()->set_top_k(v); },
       {0, 260},
       {-1, 261, int32_min, int32_max}},
      {"sampling.min_p",
       [](auto& r, double v) { r.mutable_sampling()->set_min_p(v); },
       {0, 1},
       with_never({below_zero, above_one})},
      {"sampling.repetition_penalty",
       [](auto& r, double v) {
         r.mutable_sampling()->set_repetition_penalty(v);
       },
       {1e-6, 1, 100},
       with_never({0, -1, above_hundred})},
      {"sampling.frequency_penalty",
       [](auto& r, double v) {
         r.mutable_sampling()->set_frequency_penalty(v);
       },
       {-100, 0, 100},
       with_never({-above_hundred, above_hundred})},
      {"sampling.presence_penalty",
       [](auto& r, double v) { r.mutable_sampling()->set_presence_penalty(v); },
       {-100, 0, 100},
       with_never({-above_hundred, above_hundred})},
      {"stop.max_tokens",
       [](auto& r, double v) { r.mutable_stop()->set_max_tokens(v); },
       {1, int32_max},
       {0, -1, int32_min}},
      {"stop.min_tokens",
       [](auto& r, double v) { r.mutable_stop()->set_min_tokens(v); },
       {0, 1, int32_max},
       {-1, int32_min}},
      {"output.logprobs",
       [](auto& r, double v) { r.mutable_output()->set_logprobs(v); },
       {0, 20},
       {-1, 21, int32_min, int32_max}},
      {"output.sentence_trace",
       [](auto& r, double v) { r.mutable_output()->set_sentence_trace(v); },
       {0, 64},
       {-1, 65, int32_min, int32_max}},
      {"kv.token_budget",
       [](auto& r, double v) { r.mutable_kv()->set_token_budget(v); },
       {1, int32_max},
       {0, -1, int32_min}},
      {"kv.semantic_factor",
       [](auto& r, double v) { r.mutable_kv()->set_semantic_factor(v); },
       {1, 1000},
       with_never({0.999, 1000.001})},
      {"kv.prior_half_life",
       [](auto& r, double v) { r.mutable_kv()->set_prior_half_life(v); },
       {0, int32_max},
       {-1, int32_min}},
      {"kv.query_blend",
       [](auto& r, double v) { r.mutable_kv()->set_query_blend(v); },
       {0, 1},
       with_never({-0.001, 1.001})},
      {"kv.sink_tokens",
       [](auto& r, double v) { r.mutable_kv()->set_sink_tokens(v); },
       {0, int32_max},
       {-1, int32_min}},
      {"kv.recent_tokens",
       [](auto& r, double v) { r.mutable_kv()->set_recent_tokens(v); },
       {1, int32_max},
       {0, -1, int32_min}},
      {"kv.dense_tokens",
       [](auto& r, double v) { r.mutable_kv()->set_dense_tokens(v); },
       {0, int32_max},
       {-1, int32_min}},
      {"kv.reuse_bonus",
       [](auto& r, double v) { r.mutable_kv()->set_reuse_bonus(v); },
       {0, 10},
       with_never({-0.001, 10.001})},
      {"kv.forced_tokens",
       [](auto& r, double v) { r.mutable_kv()->set_forced_tokens(v); },
       {0, int32_max},
       {-1, int32_min}},
  };
}

class NumberTest : public ::testing::TestWithParam<NumberCase> {};

TEST_P(NumberTest, AllowsItsBounds) {
  for (const double value : GetParam().allowed) {
    v1::GenerateRequest request = ValidRequest();
    GetParam().set(request, value);
    EXPECT_THAT(Fields(Validate(request, kLimits)), IsEmpty()) << value;
  }
}

TEST_P(NumberTest, RefusesWhatLiesBeyond) {
  for (const double value : GetParam().refused) {
    v1::GenerateRequest request = ValidRequest();
    GetParam().set(request, value);
    const std::vector<FieldViolation> violations = Validate(request, kLimits);
    EXPECT_THAT(Fields(violations), ElementsAre(GetParam().field)) << value;
    EXPECT_THAT(violations.at(0).description, HasSubstr("must be within"));
  }
}

std::string TestName(std::string text) {
  for (char& c : text) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return text;
}

INSTANTIATE_TEST_SUITE_P(EveryField, NumberTest,
                         ::testing::ValuesIn(NumberCases()),
                         [](const auto& info) {
                           return TestName(info.param.field);
                         });

// A change that makes a valid request wrong, and the field that says so; "" for
// a change that does not.
struct ChangeCase {
  std::string name;
  std::function<void(v1::GenerateRequest&)> change;
  std::string field;
};

void PrintTo(const ChangeCase& c, std::ostream* out) { *out << c.name; }

v1::ChatMessage* AddMessage(v1::GenerateRequest& request, std::string role) {
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role(std::move(role));
  message->set_content("x");
  return message;
}

std::vector<ChangeCase> IdAndInputCases() {
  using R = v1::GenerateRequest;
  const std::string bad_utf8 = "a\xC3";
  return {
      {"IdShortest", [](R& r) { r.set_request_id("a"); }, ""},
      {"IdLongest", [](R& r) { r.set_request_id(std::string(128, '~')); }, ""},
      {"IdEmpty", [](R& r) { r.set_request_id(""); }, "request_id"},
      {"IdTooLong", [](R& r) { r.set_request_id(std::string(129, 'a')); },
       "request_id"},
      {"IdSpace", [](R& r) { r.set_request_id("a b"); }, "request_id"},
      {"IdNewline", [](R& r) { r.set_request_id("a\n"); }, "request_id"},
      {"IdNotAscii", [](R& r) { r.set_request_id("é"); }, "request_id"},
      {"NoInput", [](R& r) { r.clear_input(); }, "input"},
      {"EmptyText", [](R& r) { r.set_text(""); }, "text"},
      {"TextLongest", [](R& r) { r.set_text(std::string(32768, 'a')); }, ""},
      {"TextTooLong", [](R& r) { r.set_text(std::string(32769, 'a')); },
       "text"},
      {"TextNotUtf8", [=](R& r) { r.set_text(bad_utf8); }, "text"},
      {"TextNul", [](R& r) { r.set_text(std::string("a\0b", 3)); }, ""},
      {"NoTokenIds", [](R& r) { r.mutable_token_ids(); }, "token_ids.ids"},
      {"FirstTokenId", [](R& r) { r.mutable_token_ids()->add_ids(0); }, ""},
      {"LastTokenId", [](R& r) { r.mutable_token_ids()->add_ids(259); }, ""},
      {"TokenIdNegative", [](R& r) { r.mutable_token_ids()->add_ids(-1); },
       "token_ids.ids[0]"},
      {"TokenIdTooLarge",
       [](R& r) {
         r.mutable_token_ids()->add_ids(3);
         r.mutable_token_ids()->add_ids(260);
       },
       "token_ids.ids[1]"},
      {"NoMessages", [](R& r) { r.mutable_chat(); }, "chat.messages"},
      {"Chat", [](R& r) { AddMessage(r, "user"); }, ""},
      {"WrongRole", [](R& r) { AddMessage(r, "tool"); },
       "chat.messages[0].role"},
      {"EmptyRole", [](R& r) { AddMessage(r, ""); }, "chat.messages[0].role"},
      {"TooManyMessages",
       [](R& r) {
         for (int i = 0; i < 1025; ++i) AddMessage(r, "user");
       },
       "chat.messages"},
      {"ChatTooLongTogether",
       [](R& r) {
         for (int i = 0; i < 2; ++i)
           AddMessage(r, "user")->set_content(std::string(16384, 'a'));
         r.mutable_chat()->set_assistant_prefix("b");
       },
       "chat.messages"},
      {"ContentNotUtf8",
       [=](R& r) { AddMessage(r, "user")->set_content(bad_utf8); },
       "chat.messages[0].content"},
      {"PrefixNotUtf8",
       [=](R& r) {
         AddMessage(r, "user");
         r.mutable_chat()->set_assistant_prefix(bad_utf8);
       },
       "chat.assistant_prefix"},
  };
}

std::vector<ChangeCase> ListAndKvCases() {
  using R = v1::GenerateRequest;
  const auto add_strings = [](R& r, int count) {
    for (int i = 0; i < count; ++i) r.mutable_stop()->add_stop_strings("x");
  };
  const auto add_ids = [](R& r, int count) {
    for (int i = 0; i < count; ++i) r.mutable_stop()->add_stop_token_ids(i);
  };
  const auto bias = [](R& r, int32_t id, float value) {
    (*r.mutable_sampling()->mutable_logit_bias())[id] = value;
  };
  return {
      {"StopStringsMost", [=](R& r) { add_strings(r, 16); }, ""},
      {"StopStringsTooMany", [=](R& r) { add_strings(r, 17); },
       "stop.stop_strings"},
      {"StopStringLongest",
       [](R& r) { r.mutable_stop()->add_stop_strings(std::string(256, 'a')); },
       ""},
      {"StopStringTooLong",
       [](R& r) { r.mutable_stop()->add_stop_strings(std::string(257, 'a')); },
       "stop.stop_strings[0]"},
      {"StopStringEmpty", [](R& r) { r.mutable_stop()->add_stop_strings(""); },
       "stop.stop_strings[0]"},
      {"StopStringNotUtf8",
       [](R& r) { r.mutable_stop()->add_stop_strings("\xFF"); },
       "stop.stop_strings[0]"},
      {"StopIdsMost", [=](R& r) { add_ids(r, 64); }, ""},
      {"StopIdsTooMany", [=](R& r) { add_ids(r, 65); }, "stop.stop_token_ids"},
      {"StopIdTooLarge",
       [](R& r) { r.mutable_stop()->add_stop_token_ids(260); },
       "stop.stop_token_ids[0]"},
      {"MinAboveMax",
       [](R& r) {
         r.mutable_stop()->set_max_tokens(4);
         r.mutable_stop()->set_min_tokens(5);
       },
       "stop.min_tokens"},
      {"MinEqualsMax",
       [](R& r) {
         r.mutable_stop()->set_max_tokens(4);
         r.mutable_stop()->set_min_tokens(4);
       },
       ""},
      {"BiasBounds",
       [=](R& r) {
         bias(r, 0, -100);
         bias(r, 259, 100);
       },
       ""},
      {"BiasTooLarge", [=](R& r) { bias(r, 5, 100.5f); },
       "sampling.logit_bias[5]"},
      {"BiasNan", [=](R& r) { bias(r, 5, kNan); }, "sampling.logit_bias[5]"},
      {"BiasInfinite", [=](R& r) { bias(r, 5, -kInfinity); },
       "sampling.logit_bias[5]"},
      {"BiasOfNoToken", [=](R& r) { bias(r, 260, 1); },
       "sampling.logit_bias[260]"},
      {"BiasNegativeToken", [=](R& r) { bias(r, -1, 1); },
       "sampling.logit_bias[-1]"},
      {"SaltLongest",
       [](R& r) { r.mutable_kv()->set_cache_salt(std::string(256, 'a')); }, ""},
      {"SaltTooLong",
       [](R& r) { r.mutable_kv()->set_cache_salt(std::string(257, 'a')); },
       "kv.cache_salt"},
      {"KnownPolicy", [](R& r) { r.mutable_kv()->set_policy("full"); }, ""},
      {"UnknownPolicy", [](R& r) { r.mutable_kv()->set_policy("magic"); },
       "kv.policy"},
      {"EmptyPolicy", [](R& r) { r.mutable_kv()->set_policy(""); },
       "kv.policy"},
      {"LargestSeed",
       [](R& r) {
         r.mutable_sampling()->set_seed(std::numeric_limits<uint64_t>::max());
       },
       ""},
  };
}

class ChangeTest : public ::testing::TestWithParam<ChangeCase> {};

TEST_P(ChangeTest, IsReportedUnderItsField) {
  v1::GenerateRequest request = ValidRequest();
  GetParam().change(request);
  const std::vector<FieldViolation> violations = Validate(request, kLimits);
  if (GetParam().field.empty()) {
    EXPECT_THAT(Fields(violations), IsEmpty());
  } else {
    EXPECT_THAT(Fields(violations), ElementsAre(GetParam().field));
  }
}

INSTANTIATE_TEST_SUITE_P(IdAndInput, ChangeTest,
                         ::testing::ValuesIn(IdAndInputCases()),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(ListAndKv, ChangeTest,
                         ::testing::ValuesIn(ListAndKvCases()),
                         [](const auto& info) { return info.param.name; });

TEST(ValidateGenerate, TooManyBiasesAreCounted) {
  v1::GenerateRequest request = ValidRequest();
  const ServedLimits large = {.vocab_size = 5000, .max_request_tokens = 10};
  for (int id = 0; id < 1025; ++id)
    (*request.mutable_sampling()->mutable_logit_bias())[id] = 1;
  EXPECT_THAT(Fields(Validate(request, large)),
              ElementsAre("sampling.logit_bias"));
}

TEST(ValidateGenerate, NeverRepeatsThePrompt) {
  v1::GenerateRequest request;
  request.set_text("secret" + std::string(100000, 'x') + "\xFF");
  request.mutable_stop()->add_stop_strings("secret\xFF");
  for (const FieldViolation& violation : Validate(request, kLimits))
    EXPECT_THAT(violation.description, ::testing::Not(HasSubstr("secret")));
}

TEST(ValidateTokenize, ChecksInput) {
  v1::TokenizeRequest request;
  EXPECT_THAT(Fields(Validate(request, kLimits)), ElementsAre("input"));
  request.set_text("");
  EXPECT_THAT(Validate(request, kLimits), IsEmpty());
  request.set_text(std::string(32769, 'a'));
  EXPECT_THAT(Fields(Validate(request, kLimits)), ElementsAre("text"));
  request.mutable_chat();
  EXPECT_THAT(Fields(Validate(request, kLimits)), ElementsAre("chat.messages"));
}

TEST(ValidateDetokenize, ChecksIds) {
  v1::DetokenizeRequest request;
  EXPECT_THAT(Validate(request, kLimits), IsEmpty());
  request.add_token_ids(260);
  EXPECT_THAT(Fields(Validate(request, kLimits)), ElementsAre("token_ids[0]"));
  request.clear_token_ids();
  for (int i = 0; i <= kMaxDetokenizeIds; ++i) request.add_token_ids(0);
  EXPECT_THAT(Fields(Validate(request, kLimits)), ElementsAre("token_ids"));
}

TEST(ValidateCancel, ChecksTheId) {
  v1::CancelRequest request;
  EXPECT_THAT(Fields(Validate(request)), ElementsAre("request_id"));
  request.set_request_id("live");
  EXPECT_THAT(Validate(request), IsEmpty());
}

}  // namespace
}  // namespace sentencekv
