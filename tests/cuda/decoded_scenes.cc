#include "tests/cuda/decoded_scenes.h"

#include <algorithm>
#include <span>
#include <string>

#include "cache/sentence_policy.h"
#include "gtest/gtest.h"
#include "tests/cuda/small_backend.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

constexpr int64_t kChunk = 64;

// Sentences of different words and lengths; a byte is a token.
std::vector<int32_t> Story(int64_t num_tokens, int64_t first) {
  std::string text;
  for (int64_t i = first; std::ssize(text) < num_tokens; ++i) {
    text += "Boat " + std::to_string(i * i) + " sails";
    for (int64_t j = 0; j < i % 4; ++j) text += " far";
    text += i % 5 == 0 ? ".\n\n" : ". ";
  }
  text.resize(static_cast<size_t>(num_tokens));
  return {text.begin(), text.end()};
}

// Paragraphs of four tokens, each of which is a sentence.
std::vector<int32_t> Rhyme(int64_t num_tokens) {
  std::string text;
  for (char c = 'a'; std::ssize(text) < num_tokens;
       c = c == 'z' ? 'a' : c + 1) {
    text += {c, '.', '\n', '\n'};
  }
  text.resize(static_cast<size_t>(num_tokens));
  return {text.begin(), text.end()};
}

StepCalls CallsSoFar() {
  StepCalls calls;
  for (const char* call : {"cudaStreamSynchronize", "cudaEventSynchronize",
                           "cudaDeviceSynchronize", "cudaMemcpy"}) {
    calls.waits += cuda_sim::CallsOf(call);
  }
  calls.kernels = cuda_sim::CallsOf("cudaLaunchKernelEx") +
                  cuda_sim::CallsOf("cublasLtMatmul");
  calls.graph_launches = cuda_sim::CallsOf("cudaGraphLaunch");
  return calls;
}

int64_t NumChoices() {
  for (const auto& count : cuda_sim::OperationCounts()) {
    if (count.name == "ChooseKernel") return count.launches;
  }
  return 0;
}

}  // namespace

KvOptions Choosing(int64_t budget) {
  KvOptions options;
  options.token_budget = budget;
  options.sink_tokens = 5;
  options.recent_tokens = 20;
  options.dense_tokens = 0;
  return options;
}

KvOptions Sign(int64_t budget) {
  KvOptions options = Choosing(budget);
  options.index_kind = SentenceIndexKind::kSign;
  return options;
}

KvOptions MinMaxWithoutPrior(int64_t budget) {
  KvOptions options = Choosing(budget);
  options.index_kind = SentenceIndexKind::kMinMax;
  options.prior = false;
  return options;
}

KvOptions Blended(int64_t budget) {
  KvOptions options = Choosing(budget);
  options.query_blend = 0.5;
  options.reuse_bonus = 1.0;
  return options;
}

KvOptions Lagging(int64_t budget) {
  KvOptions options = Choosing(budget);
  options.strict = false;
  return options;
}

KvOptions Traced(int64_t budget) {
  KvOptions options = Choosing(budget);
  options.trace_sources = 2;
  return options;
}

std::vector<int64_t> Outcome::waits() const {
  std::vector<int64_t> waits;
  for (const StepCalls& step : calls) waits.push_back(step.waits);
  return waits;
}

ModelRunnerOptions SceneMemory(const Scene& scene, ChoosingWay way) {
  return {.num_pages = 120,
          .kv_dtype = DType::kBF16,
          .load = {.max_tokens_per_step = 128},
          .context_length = kSceneContext,
          .make_backend =
              [way] {
                return MakeSmallBackend(
                    size_t{256} << 10, size_t{64} << 10,
                    way != ChoosingWay::kDeviceWithoutGraphs);
              },
          .num_frames = scene.num_frames,
          .host_chooses = way == ChoosingWay::kHost};
}

std::string SceneModel(const Scene& scene) {
  return WriteTinyGguf(MakeTinyModel({.num_layers = scene.num_layers,
                                      .width = 32,
                                      .ffn_width = 32,
                                      .matrix_type = SourceType::kBF16,
                                      .embedding_type = SourceType::kBF16,
                                      .tied_output = false}));
}

std::unique_ptr<KvPolicy> ScenePolicy(const ModelInfo& info) {
  static const ByteTokenizer tokenizer;
  return MakeSentencePolicy({.tokenizer = &tokenizer,
                             .shape = {.num_layers = info.num_layers,
                                       .num_heads = info.num_heads,
                                       .num_kv_heads = info.num_kv_heads,
                                       .head_dim = info.head_dim}});
}

std::vector<int32_t> SceneText(const Scene& scene, const Part& part) {
  std::vector<int32_t> text =
      part.first < 0 ? Rhyme(kSceneContext) : Story(kSceneContext, part.first);
  if (part.is_endless) {
    for (int64_t i = scene.num_prompt; i < kSceneContext; ++i) {
      text[static_cast<size_t>(i)] = i % 7 == 0 ? ' ' : 'a' + i % 5;
    }
  }
  return text;
}

Outcome Decode(const Scene& scene, uint64_t seed, ChoosingWay way) {
  Outcome outcome;
  cuda_sim::Reset({.seed = seed});
  {
    ModelRunner runner(SceneModel(scene), SceneMemory(scene, way));
    const auto policy = ScenePolicy(runner.model().info());
    std::vector<std::vector<int32_t>> texts;
    const auto feed_prompt = [&](size_t i, int64_t chunk) {
      for (int64_t begin = 0; begin < scene.num_prompt; begin += chunk) {
        const int64_t count = std::min(chunk, scene.num_prompt - begin);
        runner.Step(i, std::span(texts[i]).subspan(begin, count));
      }
    };
    for (size_t i = 0; i < scene.parts.size(); ++i) {
      const Part& part = scene.parts[i];
      texts.push_back(SceneText(scene, part));
      EXPECT_EQ(runner.Add(*policy, part.options, scene.num_prompt), i);
      if (!part.comes_late) feed_prompt(i, kChunk);
    }
    for (int step = 0; step < scene.num_steps; ++step) {
      std::vector<ModelRunner::Feed> feeds;
      for (size_t i = 0; i < scene.parts.size(); ++i) {
        const Part& part = scene.parts[i];
        const int of_part = step - part.first_step;
        if (of_part < 0) continue;
        if (of_part == 0 && part.comes_late) feed_prompt(i, scene.num_prompt);
        if (of_part >= part.num_steps) continue;
        feeds.push_back(
            {i, std::span(texts[i]).subspan(scene.num_prompt + of_part, 1)});
      }
      const StepCalls before = CallsSoFar();
      for (auto& row : runner.Step(feeds)) outcome.logits.push_back(row);
      const StepCalls after = CallsSoFar();
      outcome.calls.push_back(
          {.waits = after.waits - before.waits,
           .kernels = after.kernels - before.kernels,
           .graph_launches = after.graph_launches - before.graph_launches});
    }
    for (size_t i = 0; i < scene.parts.size(); ++i) {
      outcome.counts.push_back(*runner.sequence(i).policy_state->read_counts());
    }
    outcome.transfers = runner.memory().transfers();
    outcome.graphs = runner.backend().step_counts();
    outcome.num_choices = NumChoices();
  }
  cuda_sim::ExpectNothingFound();
  EXPECT_EQ(cuda_sim::CountLiveObjects().device_bytes, 0);
  EXPECT_EQ(cuda_sim::CountLiveObjects().graphs, 0);
  return outcome;
}

void ExpectSame(const Outcome& tested, const Outcome& expected) {
  ASSERT_EQ(tested.logits.size(), expected.logits.size());
  for (size_t i = 0; i < expected.logits.size(); ++i) {
    ASSERT_EQ(tested.logits[i], expected.logits[i]) << "row " << i;
  }
  for (size_t i = 0; i < expected.counts.size(); ++i) {
    SCOPED_TRACE("sequence " + std::to_string(i));
    const ReadCounts& a = tested.counts[i];
    const ReadCounts& b = expected.counts[i];
    EXPECT_EQ(a.steps, b.steps);
    EXPECT_EQ(a.heads, b.heads);
    EXPECT_EQ(a.tokens_attended, b.tokens_attended);
    EXPECT_EQ(a.sentences_chosen, b.sentences_chosen);
    EXPECT_EQ(a.sentences_compared, b.sentences_compared);
    EXPECT_EQ(a.sentences_repeated, b.sentences_repeated);
  }
}

}  // namespace sentencekv
