// The engine over the real network: a request's answer is the same alone and
// among sixteen others, for every chunk size, thread count and instruction set,
// with pages so few that requests are preempted.
#include <memory>
#include <string>
#include <vector>

#include "engine/llm_engine.h"
#include "engine/model_loader.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/engine/core_harness.h"
#include "tests/support/cpu_levels.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

struct EngineSettings {
  CpuVariant variant;
  int64_t max_step_tokens = 256;
  int64_t prefill_beside_decode = 64;
  int64_t num_pages = 64;
};

std::vector<GenerateRequest> MakeRequests(int64_t vocab_size) {
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 17; ++i) {
    GenerateRequest request =
        GreedyRequest("r" + std::to_string(i), 3 + 11 * i, 12 + i);
    for (int32_t& id : request.prompt) {
      id = static_cast<int32_t>((id * (i + 3)) % vocab_size);
    }
    request.sampling.temperature = i % 3 == 0 ? 0.0f : 1.0f;
    request.sampling.seed = 100 + i;
    request.output.num_logprobs = 0;
    if (i % 4 == 3) {
      request.kv = {.policy = "sentence-paper",
                    .token_budget = 64 + i,
                    .semantic_factor = 1.2};
    }
    if (i % 4 == 2) {
      request.kv = {.policy = "sentence",
                    .token_budget = 16 + i,
                    .index_kind = static_cast<SentenceIndexKind>(i / 4 % 3),
                    .dense_tokens = 0};
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

// What a set of requests, submitted at once, is answered.
std::vector<Collected> Answers(const std::string& path,
                               const EngineSettings& settings,
                               const std::vector<GenerateRequest>& requests,
                               int64_t* preemptions) {
  const std::unique_ptr<Backend> backend = MakeVariant(settings.variant);
  ModelLoadOptions load;
  const LoadedModel loaded = LoadModel(path, *backend, load).value();
  const ModelInfo& info = loaded.model->info();
  KvLayout layout;
  layout.num_layers = info.num_layers;
  layout.num_pages = settings.num_pages;
  layout.num_kv_heads = info.num_kv_heads;
  layout.head_dim = info.head_dim;
  const auto pool = PagePool::Create(*backend, layout).value();
  const auto memory = MakeInPlaceKvMemory(*pool);
  LlmEngineOptions options;
  options.max_step_tokens = settings.max_step_tokens;
  options.max_prefill_tokens_beside_decode = settings.prefill_beside_decode;
  const SystemClock clock;
  const auto engine = MakeLlmEngine(options, *loaded.model, *loaded.tokenizer,
                                    *memory, clock, nullptr)
                          .value();
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const GenerateRequest& request : requests) {
    streams.push_back(engine->Submit(request).value());
  }
  std::vector<Collected> answers(requests.size());
  for (size_t i = 0; i < streams.size(); ++i) {
    while (!answers[i].finish.has_value()) {
      auto event = streams[i]->Pop(absl::Seconds(300));
      if (!event.has_value()) {
        ADD_FAILURE() << "request " << i << " does not end";
        return answers;
      }
      answers[i].Add(*std::move(event));
    }
  }
  *preemptions += engine->stats().preemptions;
  EXPECT_EQ(engine->stats().pages_used, 0);
  return answers;
}

class BatchIndependence : public ::testing::TestWithParam<CpuVariant> {};

TEST_P(BatchIndependence, AnswersAreTheSameAloneAndTogether) {
  for (const SourceType type : {SourceType::kF32, SourceType::kQ4_1}) {
    SCOPED_TRACE(std::string(Name(type)));
    TinyModelOptions model_options;
    model_options.matrix_type = type;
    const TinyModel model = MakeTinyModel(model_options);
    const std::string path = WriteTinyGguf(model);
    const auto requests =
        MakeRequests(static_cast<int64_t>(model.vocabulary.tokens.size()));
    // Alone: one thread, a step large enough for each prompt.
    int64_t preemptions = 0;
    std::vector<Collected> alone;
    for (const GenerateRequest& request : requests) {
      EngineSettings settings;
      settings.variant = {GetParam().level, 1};
      alone.push_back(Answers(path, settings, {request}, &preemptions).front());
    }
    EXPECT_EQ(preemptions, 0);
    const EngineSettings cases[] = {
        {GetParam(), 256, 64, 200}, {GetParam(), 64, 16, 40},
        {GetParam(), 37, 5, 24},    {GetParam(), 16, 3, 30},
        {GetParam(), 3, 1, 64},
    };
    for (const EngineSettings& settings : cases) {
      SCOPED_TRACE(testing::Message()
                   << settings.max_step_tokens << " tokens a step");
      const auto together = Answers(path, settings, requests, &preemptions);
      for (size_t i = 0; i < requests.size(); ++i) {
        SCOPED_TRACE(requests[i].request_id);
        EXPECT_EQ(together[i].ids, alone[i].ids);
        EXPECT_EQ(together[i].text, alone[i].text);
        ASSERT_EQ(together[i].tokens.size(), alone[i].tokens.size());
        for (size_t t = 0; t < alone[i].tokens.size(); ++t) {
          ASSERT_EQ(together[i].tokens[t].logprob, alone[i].tokens[t].logprob)
              << "to the last bit";
        }
      }
    }
    EXPECT_GT(preemptions, 0) << "the small pools are to preempt";
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, BatchIndependence,
                         ::testing::ValuesIn(CpuVariants()), CpuVariantName);

}  // namespace
}  // namespace sentencekv
