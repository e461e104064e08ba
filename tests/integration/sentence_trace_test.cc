// What an answer was read from, as a client sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <thread>

#include "cache/page_pool.h"
#include "kernels/kv_layout.h"
#include "nlohmann/json.hpp"
#include "tests/integration/server_process.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tensors.h"

namespace sentencekv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// About 330 tokens of the tiny vocabulary, whose tokens are bytes mostly.
v1::GenerateRequest TinyRequest() {
  v1::GenerateRequest request;
  std::string text;
  for (int i = 0; i < 12; ++i) {
    text += "Boat " + std::to_string(i * i) + " sails far away. ";
  }
  request.set_text(text);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(80);
  request.mutable_stop()->set_ignore_eos(true);
  request.mutable_output()->set_sentence_trace(3);
  request.mutable_kv()->set_policy("sentence");
  request.mutable_kv()->set_token_budget(60);
  request.mutable_kv()->set_dense_tokens(0);
  return request;
}

class SentenceTrace : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new ServerProcess(WriteTinyGguf(MakeTinyModel({})));
  }
  static void TearDownTestSuite() {
    EXPECT_EQ(server_->Stop(), 0) << server_->log();
    delete server_;
  }
  static Answer Ask(const v1::GenerateRequest& request) {
    const auto context = server_->connection().NewContext();
    return ReadAnswer(server_->connection().stub(), *context, request, nullptr);
  }
  static ServerProcess* server_;
};

ServerProcess* SentenceTrace::server_ = nullptr;

TEST_F(SentenceTrace, CoversTheAnswerAndCountsWhatWasChosen) {
  const v1::GenerateRequest request = TinyRequest();
  const Answer answer = Ask(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const v1::Usage& usage = answer.finish->usage();
  ASSERT_GT(usage.prompt_tokens(), 150);
  EXPECT_GE(usage.sentences_indexed(), 12);
  EXPECT_GT(usage.tokens_attended_per_step(), 80);  // sink and recent
  EXPECT_LE(usage.tokens_attended_per_step(), 60 + 16 + 64 + 40);
  EXPECT_GT(usage.selection_overlap(), 0);
  EXPECT_LE(usage.selection_overlap(), 1);

  ASSERT_FALSE(answer.reads.empty());
  const int64_t heads =
      TinyModelOptions().num_layers * TinyModelOptions().num_kv_heads;
  int64_t position = usage.prompt_tokens();
  std::string text;
  for (const v1::SentenceReads& sentence : answer.reads) {
    EXPECT_EQ(sentence.begin(), position);
    position = sentence.end();
    text += sentence.text();
    EXPECT_FALSE(sentence.whole_context());
    // The prompt gave the first token; a step each of the others.
    const int64_t first = sentence.begin() == usage.prompt_tokens() ? 1 : 0;
    EXPECT_EQ(sentence.selections(),
              (sentence.end() - sentence.begin() - first) * heads);
    EXPECT_LE(sentence.sources_size(), 3);
    EXPECT_GE(sentence.sources_size(), 1);
    double sum = 0;
    double last = 1;
    for (const v1::SourceSentence& source : sentence.sources()) {
      EXPECT_LT(source.end(), sentence.end());
      EXPECT_LE(source.share(), last);
      EXPECT_GE(source.times_chosen(), 1);
      EXPECT_LE(source.times_chosen(), sentence.selections());
      EXPECT_EQ(source.generated(), source.begin() >= usage.prompt_tokens());
      if (!source.generated()) {
        EXPECT_THAT(request.text(), HasSubstr(source.text()));
      }
      last = source.share();
      sum += source.share();
    }
    EXPECT_LE(sum, 1 + 1e-9);
  }
  EXPECT_EQ(position, usage.prompt_tokens() + usage.generated_tokens());
  EXPECT_EQ(text, answer.text);
}

TEST_F(SentenceTrace, ChangesNoAnswerAndIsSilentUnlessAsked) {
  v1::GenerateRequest request = TinyRequest();
  const Answer traced = Ask(request);
  request.mutable_output()->clear_sentence_trace();
  const Answer plain = Ask(request);
  EXPECT_EQ(plain.token_ids, traced.token_ids);
  EXPECT_THAT(plain.reads, IsEmpty());
  EXPECT_EQ(plain.finish->usage().selection_overlap(),
            traced.finish->usage().selection_overlap());
}

// A preempted request computes its tokens again, and chooses again.
TEST_F(SentenceTrace, IsTheSameAfterAPreemption) {
  v1::GenerateRequest request = TinyRequest();
  request.mutable_stop()->set_max_tokens(200);
  request.mutable_kv()->set_bypass_prefix_cache(true);
  const Answer alone = Ask(request);
  ASSERT_TRUE(alone.status.ok()) << alone.status.error_message();
  // Two of them fit while they are prompts, and no longer when they end.
  const TinyModelOptions model;
  const int64_t num_pages =
      2 * PagesFor(alone.finish->usage().prompt_tokens()) + 8;
  const int64_t page_bytes = kPageTokens * model.num_layers *
                             model.num_kv_heads * 2 * model.head_dim * 2;
  ServerProcess small(
      WriteTinyGguf(MakeTinyModel(model)),
      {"--kv_host_memory", std::to_string(num_pages * page_bytes)});
  bool preempted = false;
  for (int attempt = 0; attempt < 30 && !preempted; ++attempt) {
    std::array<Answer, 2> answers;
    {
      std::vector<std::jthread> threads;
      for (Answer& answer : answers) {
        threads.emplace_back([&] {
          const auto connection = small.Connect();
          const auto context = connection->NewContext();
          answer = ReadAnswer(connection->stub(), *context, request, nullptr);
        });
      }
    }
    for (const Answer& answer : answers) {
      ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
      preempted |= answer.finish->usage().preemptions() > 0;
      EXPECT_EQ(answer.token_ids, alone.token_ids);
      ASSERT_EQ(answer.reads.size(), alone.reads.size());
      for (size_t i = 0; i < alone.reads.size(); ++i) {
        EXPECT_EQ(answer.reads[i].SerializeAsString(),
                  alone.reads[i].SerializeAsString())
            << i;
      }
      EXPECT_EQ(answer.finish->usage().tokens_attended_per_step(),
                alone.finish->usage().tokens_attended_per_step());
    }
  }
  EXPECT_TRUE(preempted);
}

TEST_F(SentenceTrace, SaysWhenTheWholeContextWasRead) {
  v1::GenerateRequest request = TinyRequest();
  request.mutable_kv()->set_policy("full");
  request.mutable_kv()->clear_token_budget();
  request.mutable_kv()->clear_dense_tokens();
  const Answer full = Ask(request);
  ASSERT_EQ(full.reads.size(), 1u) << full.status.error_message();
  EXPECT_TRUE(full.reads[0].whole_context());
  EXPECT_EQ(full.reads[0].text(), full.text);
  const v1::Usage& usage = full.finish->usage();
  EXPECT_EQ(usage.tokens_attended_per_step(), usage.prompt_tokens() + 80 / 2);

  request.mutable_kv()->set_policy("sentence");
  request.mutable_kv()->set_token_budget(100000);
  const Answer dense = Ask(request);
  ASSERT_FALSE(dense.reads.empty());
  for (const v1::SentenceReads& sentence : dense.reads) {
    EXPECT_TRUE(sentence.whole_context());
    EXPECT_THAT(sentence.sources(), IsEmpty());
  }
  // By the steps themselves, and by the formula.
  EXPECT_EQ(dense.finish->usage().tokens_attended_per_step(),
            usage.tokens_attended_per_step());
}

TEST_F(SentenceTrace, IsRefusedWhereThereIsNone) {
  v1::GenerateRequest request = TinyRequest();
  request.mutable_kv()->set_policy("sentence-paper");
  request.mutable_kv()->set_token_budget(66);
  request.mutable_kv()->clear_dense_tokens();
  const Answer refused = Ask(request);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("sentence_trace"));
  request.mutable_output()->clear_sentence_trace();
  const Answer answer = Ask(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  // The budget, and some of the answer.
  EXPECT_GE(answer.finish->usage().tokens_attended_per_step(), 30);
  EXPECT_LT(answer.finish->usage().tokens_attended_per_step(), 66 + 32);
}

// A chronicle of a village, about 4,000 tokens, in which nothing is said twice
// but `fact`, once.
std::string Chronicle(uint64_t seed, size_t num_sentences,
                      const std::string& fact, size_t place) {
  constexpr const char* kNames[] = {"Anna",  "Boris", "Clara", "Edith",
                                    "Felix", "Greta", "Hanno", "Irma",
                                    "Jonas", "Karla", "Lukas", "Olga"};
  constexpr const char* kPlaces[] = {
      "the bakery", "the harbour",    "the old mill", "the post office",
      "the school", "the boat house", "the bridge",   "the inn"};
  constexpr const char* kThings[] = {
      "a basket of apples", "two loaves of bread", "a broken clock",
      "a pair of boots",    "a coil of rope",      "the new ledger",
      "a bag of nails",     "some seed potatoes"};
  constexpr const char* kEnds[] = {
      "before anyone else was awake", "without saying a word",
      "while the bells were ringing", "and went home early"};
  TinyRandom random(seed);
  const auto pick = [&](const auto& words) {
    return std::string(words[random.Next() % std::size(words)]);
  };
  std::string text;
  for (size_t i = 0; i < num_sentences; ++i) {
    if (i == place) text += fact + " ";
    switch (i % 3) {
      case 0:
        text += pick(kNames) + " carried " + pick(kThings) + " to " +
                pick(kPlaces) + " " + pick(kEnds) + ".";
        break;
      case 1:
        text += "At " + pick(kPlaces) + " " + pick(kNames) + " met " +
                pick(kNames) + ", who had lost " + pick(kThings) + ".";
        break;
      default:
        text += pick(kNames) + " spoke with " + pick(kNames) + " about " +
                pick(kThings) + " " + pick(kEnds) + ".";
    }
    text += i % 8 == 7 ? "\n\n" : " ";
  }
  return text;
}

TEST(SentenceTraceOfSmolLm, ShowsTheOneSentenceThatAnswersFirst) {
  const auto model = SmolLmPath();
  SKV_SKIP_WITHOUT(model, "SmolLM2-135M-Instruct.Q4_1.gguf");
  ServerProcess server(*model, {"--kv_host_memory", "1GiB"});
  const struct {
    std::string fact;
    size_t place;  // of 235 sentences
    std::string question;
    std::string answer;
  } kCases[] = {
      {"The annual dinner of the rowing club will take place on 14 March in "
       "the town hall.",
       30,
       "When and where does the annual dinner of the rowing club take place?",
       "14 March"},
      {"The special magic number for the green door is 58214.", 120,
       "What is the special magic number for the green door mentioned in the "
       "text?",
       "58214"},
  };
  for (const auto& test : kCases) {
    const std::string prompt = MakeTempDir() + "/prompt.txt";
    std::ofstream(prompt) << Chronicle(test.place, 235, test.fact, test.place)
                          << "\n"
                          << test.question;
    const ProgramResult result = server.Client(
        "generate", {"--chat", "--prompt-file", prompt, "--temperature", "0",
                     "--max-tokens", "40", "--show-sentences", "--json"});
    ASSERT_EQ(result.status, 0) << result.err;
    const auto json = nlohmann::json::parse(result.out);
    EXPECT_GT(json["prompt_tokens"], 3700);
    EXPECT_LT(json["prompt_tokens"], 4400);
    EXPECT_LT(json["tokens_attended_per_step"], 1200);
    EXPECT_THAT(json["text"].get<std::string>(), HasSubstr(test.answer));
    ASSERT_FALSE(json["sentences"].empty()) << json;
    const auto& sentence = json["sentences"][0];
    ASSERT_EQ(sentence["sources"].size(), 3u) << sentence;
    EXPECT_THAT(sentence["sources"][0]["text"].get<std::string>(),
                HasSubstr(test.fact))
        << sentence;
  }
}

}  // namespace
}  // namespace sentencekv
