// Rows of the policy `sentence` that choose on the device give what they give
// where the host chooses, bit for bit, and no layer of theirs waits for the
// host. Simulated device only.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/sentence_policy.h"
#include "gtest/gtest.h"
#include "tests/cuda/small_backend.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/nothing_left.h"
#include "tests/support/model_runner.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

// Orders of threads, blocks and streams; one takes seconds.
constexpr uint64_t kSeeds = 4;

constexpr int64_t kContext = 320;
constexpr int64_t kChunk = 64;

std::unique_ptr<Backend> MakeBackend() {
  return MakeSmallBackend(size_t{256} << 10, size_t{64} << 10);
}

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

KvOptions Options(int64_t budget) {
  KvOptions options;
  options.token_budget = budget;
  options.sink_tokens = 5;
  options.recent_tokens = 20;
  options.dense_tokens = 0;
  return options;
}

KvOptions Sign(int64_t budget) {
  KvOptions options = Options(budget);
  options.index_kind = SentenceIndexKind::kSign;
  return options;
}

KvOptions MinMaxWithoutPrior(int64_t budget) {
  KvOptions options = Options(budget);
  options.index_kind = SentenceIndexKind::kMinMax;
  options.prior = false;
  return options;
}

KvOptions Blended(int64_t budget) {
  KvOptions options = Options(budget);
  options.query_blend = 0.5;
  options.reuse_bonus = 1.0;
  return options;
}

KvOptions Lagging(int64_t budget) {
  KvOptions options = Options(budget);
  options.strict = false;
  return options;
}

KvOptions Traced(int64_t budget) {
  KvOptions options = Options(budget);
  options.trace_sources = 2;
  return options;
}

// A sequence, from the decode step on in which it joins the others.
struct Part {
  KvOptions options;
  int64_t first = 0;  // sentence of the story; negative: a rhyme
  int first_step = 0;
};

struct Scene {
  std::vector<Part> parts;
  int num_steps = 10;
  int64_t num_prompt = 120;
  int64_t num_frames = 200;
  int64_t num_layers = 2;
};

// What a scene gave.
struct Outcome {
  std::vector<std::vector<float>> logits;  // of decode steps, by row
  std::vector<ReadCounts> counts;          // of the sequences
  KvTransfers transfers;
  int64_t num_choices = 0;     // launches of LaunchChoose
  std::vector<int64_t> waits;  // of the host, in each decode step
};

int64_t NumWaits() {
  int64_t waits = 0;
  for (const char* call : {"cudaStreamSynchronize", "cudaEventSynchronize",
                           "cudaDeviceSynchronize", "cudaMemcpy"}) {
    waits += cuda_sim::CallsOf(call);
  }
  return waits;
}

int64_t NumChoices() {
  for (const auto& count : cuda_sim::OperationCounts()) {
    if (count.name == "ChooseKernel") return count.launches;
  }
  return 0;
}

Outcome Decode(const Scene& scene, uint64_t seed, bool host_chooses) {
  Outcome outcome;
  cuda_sim::Reset({.seed = seed});
  {
    const ByteTokenizer tokenizer;
    ModelRunner runner(
        WriteTinyGguf(MakeTinyModel({.num_layers = scene.num_layers,
                                     .width = 32,
                                     .ffn_width = 32,
                                     .matrix_type = SourceType::kBF16,
                                     .embedding_type = SourceType::kBF16,
                                     .tied_output = false})),
        {.num_pages = 120,
         .kv_dtype = DType::kBF16,
         .load = {.max_tokens_per_step = 128},
         .context_length = kContext,
         .make_backend = &MakeBackend,
         .num_frames = scene.num_frames,
         .host_chooses = host_chooses});
    const ModelInfo& info = runner.model().info();
    const auto policy =
        MakeSentencePolicy({.tokenizer = &tokenizer,
                            .shape = {.num_layers = info.num_layers,
                                      .num_heads = info.num_heads,
                                      .num_kv_heads = info.num_kv_heads,
                                      .head_dim = info.head_dim}});
    std::vector<std::vector<int32_t>> texts;
    for (const Part& part : scene.parts) {
      texts.push_back(part.first < 0 ? Rhyme(kContext)
                                     : Story(kContext, part.first));
      const size_t sequence =
          runner.Add(*policy, part.options, scene.num_prompt);
      for (int64_t begin = 0; begin < scene.num_prompt; begin += kChunk) {
        const int64_t count = std::min(kChunk, scene.num_prompt - begin);
        runner.Step(sequence, std::span(texts.back()).subspan(begin, count));
      }
    }
    for (int step = 0; step < scene.num_steps; ++step) {
      std::vector<ModelRunner::Feed> feeds;
      for (size_t i = 0; i < scene.parts.size(); ++i) {
        const int of_part = step - scene.parts[i].first_step;
        if (of_part < 0) continue;
        feeds.push_back(
            {i, std::span(texts[i]).subspan(scene.num_prompt + of_part, 1)});
      }
      const int64_t waits = NumWaits();
      for (auto& row : runner.Step(feeds)) outcome.logits.push_back(row);
      outcome.waits.push_back(NumWaits() - waits);
    }
    for (size_t i = 0; i < scene.parts.size(); ++i) {
      outcome.counts.push_back(*runner.sequence(i).policy_state->read_counts());
    }
    outcome.transfers = runner.memory().transfers();
    outcome.num_choices = NumChoices();
  }
  cuda_sim::ExpectNothingFound();
  EXPECT_EQ(cuda_sim::CountLiveObjects().device_bytes, 0);
  return outcome;
}

void ExpectSame(const Outcome& device, const Outcome& host) {
  ASSERT_EQ(device.logits.size(), host.logits.size());
  for (size_t i = 0; i < host.logits.size(); ++i) {
    ASSERT_EQ(device.logits[i], host.logits[i]) << "row " << i;
  }
  for (size_t i = 0; i < host.counts.size(); ++i) {
    SCOPED_TRACE("sequence " + std::to_string(i));
    const ReadCounts& a = device.counts[i];
    const ReadCounts& b = host.counts[i];
    EXPECT_EQ(a.steps, b.steps);
    EXPECT_EQ(a.heads, b.heads);
    EXPECT_EQ(a.tokens_attended, b.tokens_attended);
    EXPECT_EQ(a.sentences_chosen, b.sentences_chosen);
    EXPECT_EQ(a.sentences_compared, b.sentences_compared);
    EXPECT_EQ(a.sentences_repeated, b.sentences_repeated);
  }
}

// The same for orders of threads, blocks and streams, and what else the test
// expects of the device's way.
template <typename Expect>
void ExpectWhatTheHostGives(const Scene& scene, Expect&& expect) {
  const Outcome host = Decode(scene, 1, true);
  EXPECT_EQ(host.num_choices, 0);
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Outcome device = Decode(scene, seed, false);
    ExpectSame(device, host);
    expect(device);
    if (testing::Test::HasFailure()) return;
  }
}

// Rows of all kinds in one step, two of which choose on the host.
TEST(DeviceChoosing, GivesWhatTheHostGives) {
  const Scene scene = {.parts = {{Options(40), 1, 0},
                                 {Sign(30), 1, 3},
                                 {Blended(40), 4, 1},
                                 {MinMaxWithoutPrior(50), 7, 2},
                                 {Lagging(40), 2, 0},
                                 {Traced(40), 3, 2}}};
  ExpectWhatTheHostGives(scene, [&](const Outcome& device) {
    EXPECT_EQ(device.num_choices, scene.num_steps * scene.num_layers);
    EXPECT_GT(device.transfers.chosen_hits, 0);
    EXPECT_GT(device.transfers.chosen_misses, 0);
  });
}

// The frames suffice for 16 slots in both layers, but not for the 24 that a
// text of more than 256 tokens may need: the host takes over, and knows what
// the device chose last.
TEST(DeviceChoosing, IsGivenToTheHostWhereFramesAreTooFew) {
  const Scene scene = {.parts = {{Blended(150), 1}},
                       .num_steps = 24,
                       .num_prompt = 245,
                       .num_frames = kContext / kPageTokens + 40};
  ExpectWhatTheHostGives(scene, [&](const Outcome& device) {
    // At positions 245 to 255.
    EXPECT_EQ(device.num_choices, 11 * scene.num_layers);
  });
}

// With memory for one of them, the others choose on the host.
TEST(DeviceChoosing, SharesTooLittleMemory) {
  const Scene scene = {
      .parts = {{Blended(40), 1, 0}, {Sign(60), 5, 1}, {Options(30), 9, 4}},
      .num_frames = kContext / kPageTokens + 20};
  ExpectWhatTheHostGives(scene, [&](const Outcome& device) {
    EXPECT_GT(device.num_choices, 0);
    EXPECT_GT(device.transfers.evictions, 0);
  });
}

// At the 65th sentence entries get other memory, in the midst of a step.
TEST(DeviceChoosing, FindsEntriesThatWereMoved) {
  const Scene scene = {.parts = {{Options(40), -1}},
                       .num_steps = 16,
                       .num_prompt = 250,
                       .num_frames = 400};
  ExpectWhatTheHostGives(scene, [&](const Outcome& device) {
    EXPECT_EQ(device.num_choices, scene.num_steps * scene.num_layers);
    // The device moves them itself.
    EXPECT_EQ(device.waits, std::vector<int64_t>(16, 1));
  });
}

// For the logits.
TEST(DeviceChoosing, TheHostWaitsOnceAStepHoweverManyLayers) {
  for (const int64_t num_layers : {1, 2, 5}) {
    SCOPED_TRACE(testing::Message() << num_layers << " layers");
    Scene scene = {.parts = {{Options(40), 1}, {Sign(40), 3}, {Blended(40), 5}},
                   .num_steps = 3,
                   .num_layers = num_layers};
    scene.num_frames = 100 * num_layers;
    const Outcome device = Decode(scene, 1, false);
    EXPECT_EQ(device.waits, std::vector<int64_t>(3, 1));
    // Where the host chooses it waits for the scores of each layer.
    EXPECT_EQ(Decode(scene, 1, true).waits,
              std::vector<int64_t>(3, 1 + num_layers));
  }
}

}  // namespace
}  // namespace sentencekv
