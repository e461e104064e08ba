// LlamaModel against the plain network of reference_llama.h, and its promise
// that a sequence's results do not depend on what else is in a step.
#include "engine/llama_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/llama_loader.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/support/model_runner.h"
#include "tests/support/reference_llama.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tensors.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab, uint64_t seed) {
  TinyRandom random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(
        static_cast<int32_t>(random.Next() % static_cast<uint64_t>(vocab)));
  }
  return tokens;
}

// Root of the mean squared difference, relative to that of the reference.
double RelativeError(const std::vector<std::vector<float>>& actual,
                     const std::vector<std::vector<double>>& expected) {
  double difference = 0, size = 0;
  EXPECT_EQ(actual.size(), expected.size());
  for (size_t row = 0; row < expected.size(); ++row) {
    EXPECT_EQ(actual[row].size(), expected[row].size());
    for (size_t i = 0; i < expected[row].size(); ++i) {
      difference += std::pow(actual[row][i] - expected[row][i], 2);
      size += std::pow(expected[row][i], 2);
    }
  }
  return std::sqrt(difference / size);
}

struct NetworkCase {
  const char* name;
  TinyModelOptions options;
  // f32 arithmetic of 2 layers; larger where weights and activations are
  // rounded to 8 bits (about 1/127 a value).
  double tolerance = 1e-5;
};

TinyModelOptions With(void (*change)(TinyModelOptions&)) {
  TinyModelOptions options;
  change(options);
  return options;
}

TinyModelOptions Typed(SourceType type) {
  TinyModelOptions options;
  options.matrix_type = type;
  options.embedding_type = type;
  if (BlockElements(type) == 256) options.width = options.ffn_width = 256;
  if (BlockElements(type) == 256) options.head_dim = 64;
  return options;
}

constexpr double kRounded = 0.03;

std::vector<NetworkCase> NetworkCases() {
  using O = TinyModelOptions;
  std::vector<NetworkCase> cases = {
      {"plain", O()},
      {"one_kv_head", With([](O& o) { o.num_kv_heads = 1; })},
      {"no_groups", With([](O& o) { o.num_kv_heads = 4; })},
      {"groups_of_three", With([](O& o) {
         o.num_heads = 9;
         o.num_kv_heads = 3;
       })},
      {"own_head_dim", With([](O& o) { o.head_dim = 32; })},
      {"odd_sizes", With([](O& o) {
         o.width = 44;
         o.ffn_width = 73;
         o.head_dim = 24;
       })},
      {"untied", With([](O& o) { o.tied_output = false; })},
      {"qkv_bias", With([](O& o) { o.qkv_bias = true; })},
      {"all_biases", With([](O& o) {
         o.qkv_bias = o.attention_output_bias = o.ffn_bias = true;
       })},
      {"theta", With([](O& o) { o.rope_theta = 500000; })},
      {"linear", With([](O& o) {
         o.rope_scaling.type = RopeScalingType::kLinear;
         o.rope_scaling.factor = 4;
       })},
      {"llama3", With([](O& o) {
         o.rope_scaling.type = RopeScalingType::kLlama3;
         o.rope_scaling.factor = 8;
         o.rope_scaling.original_context_length = 64;
       })},
      {"yarn", With([](O& o) {
         o.rope_scaling.type = RopeScalingType::kYarn;
         o.rope_scaling.factor = 4;
         o.rope_scaling.original_context_length = 128;
       })},
      {"llama_vocabulary", With([](O& o) { o.vocabulary = "llama"; })},
      {"f16_vectors", With([](O& o) {
         o.vector_type = SourceType::kF16;
         o.qkv_bias = true;
       })},
      {"bf16_vectors", With([](O& o) { o.vector_type = SourceType::kBF16; })},
  };
  cases.push_back({"F16", Typed(SourceType::kF16)});
  cases.push_back({"BF16", Typed(SourceType::kBF16)});
  for (const SourceType type :
       {SourceType::kQ8_0, SourceType::kQ4_0, SourceType::kQ4_1,
        SourceType::kQ5_0, SourceType::kQ5_1, SourceType::kQ4_K,
        SourceType::kQ5_K, SourceType::kQ6_K}) {
    cases.push_back({Name(type).data(), Typed(type), kRounded});
  }
  TinyModelOptions mixed = Typed(SourceType::kQ4_1);
  mixed.embedding_type = SourceType::kQ8_0;
  cases.push_back({"Q4_1_with_Q8_0_embedding", mixed, kRounded});
  return cases;
}

class Network : public testing::TestWithParam<NetworkCase> {};

TEST_P(Network, ComputesWhatTheReferenceComputes) {
  const TinyModel tiny = MakeTinyModel(GetParam().options);
  ModelRunner runner(WriteTinyGguf(tiny));
  const auto tokens = RandomTokens(41, tiny.config.vocab_size, 7);

  const auto actual = runner.RunAll(runner.Add(), tokens, 16);

  const auto expected = ReferenceLlama(tiny).Run(tokens);
  EXPECT_LT(RelativeError(actual, expected), GetParam().tolerance);
}

INSTANTIATE_TEST_SUITE_P(All, Network, testing::ValuesIn(NetworkCases()),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

// Those that a Hugging Face folder can hold: plain floats, and biases of q, k,
// v and the attention's output together.
std::vector<NetworkCase> FolderCases() {
  std::vector<NetworkCase> cases = NetworkCases();
  std::erase_if(cases, [](const NetworkCase& c) {
    return BlockElements(c.options.matrix_type) != 1 ||
           c.options.vocabulary != "gpt2" ||
           c.options.qkv_bias != c.options.attention_output_bias;
  });
  return cases;
}

class FolderNetwork : public testing::TestWithParam<NetworkCase> {};

// From a folder, q and k have their rows in another order; whole and in shards.
TEST_P(FolderNetwork, ComputesWhatTheReferenceComputes) {
  const TinyModel tiny = MakeTinyModel(GetParam().options);
  const auto tokens = RandomTokens(23, tiny.config.vocab_size, 8);
  const auto expected = ReferenceLlama(tiny).Run(tokens);
  for (const int num_shards : {1, 3}) {
    ModelRunner runner(WriteTinyFolder(tiny, num_shards));
    const auto actual = runner.RunAll(runner.Add(), tokens, 23);
    EXPECT_LT(RelativeError(actual, expected), GetParam().tolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FolderNetwork, testing::ValuesIn(FolderCases()),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

struct BatchCase {
  const char* name;
  SourceType type;
  DType kv_dtype;
  int num_threads;
};

class Batches : public testing::TestWithParam<BatchCase> {
 protected:
  ModelRunnerOptions Options() const {
    ModelRunnerOptions options;
    options.kv_dtype = GetParam().kv_dtype;
    options.num_threads = GetParam().num_threads;
    return options;
  }
  const TinyModel tiny_ = MakeTinyModel(Typed(GetParam().type));
};

TEST_P(Batches, ChunksOfEverySizeGiveTheSameBits) {
  ModelRunner runner(WriteTinyGguf(tiny_), Options());
  const auto tokens = RandomTokens(40, tiny_.config.vocab_size, 3);
  const auto expected = runner.RunAll(runner.Add(), tokens, 1);
  for (const int64_t chunk : {2, 3, 5, 6, 7, 16, 17, 33, 40}) {
    EXPECT_EQ(runner.RunAll(runner.Add(), tokens, chunk), expected) << chunk;
  }
}

// Random mixes of prefill chunks and decode steps: every sequence gets, bit
// for bit, what it gets alone.
TEST_P(Batches, MixesGiveTheSameBitsAsAlone) {
  constexpr uint64_t kSeed = 20240611;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  ModelRunner runner(WriteTinyGguf(tiny_), Options());
  TinyRandom random(kSeed);
  constexpr size_t kSequences = 6;
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<std::vector<float>>> alone, mixed(kSequences);
  std::vector<size_t> ids, fed(kSequences, 0);
  for (size_t i = 0; i < kSequences; ++i) {
    const auto length = static_cast<int64_t>(5 + random.Next() % 40);
    tokens.push_back(RandomTokens(length, tiny_.config.vocab_size, 100 + i));
    alone.push_back(runner.RunAll(runner.Add(), tokens[i], length));
    ids.push_back(runner.Add());
  }
  while (true) {
    std::vector<ModelRunner::Feed> feeds;
    std::vector<size_t> owners;
    for (size_t i = 0; i < kSequences; ++i) {
      const size_t left = tokens[i].size() - fed[i];
      if (left == 0 || random.Next() % 3 == 0) continue;
      const size_t count = std::min<size_t>(left, 1 + random.Next() % 8);
      feeds.push_back({ids[i], std::span(tokens[i]).subspan(fed[i], count),
                       static_cast<int64_t>(count)});
      owners.insert(owners.end(), count, i);
      fed[i] += count;
    }
    const auto rows = runner.Step(feeds);
    ASSERT_EQ(rows.size(), owners.size());
    for (size_t row = 0; row < rows.size(); ++row) {
      mixed[owners[row]].push_back(rows[row]);
    }
    size_t left = 0;
    for (size_t i = 0; i < kSequences; ++i) left += tokens[i].size() - fed[i];
    if (left == 0) break;
  }
  for (size_t i = 0; i < kSequences; ++i) EXPECT_EQ(mixed[i], alone[i]) << i;
}

INSTANTIATE_TEST_SUITE_P(
    All, Batches,
    testing::Values(BatchCase{"F32", SourceType::kF32, DType::kF32, 1},
                    BatchCase{"F32_2threads", SourceType::kF32, DType::kF32, 2},
                    BatchCase{"BF16_kvBF16", SourceType::kBF16, DType::kBF16,
                              1},
                    BatchCase{"Q4_1_kvF16", SourceType::kQ4_1, DType::kF16, 2},
                    BatchCase{"Q8_0_kvF16", SourceType::kQ8_0, DType::kF16, 1},
                    BatchCase{"Q6_K_kvF32", SourceType::kQ6_K, DType::kF32, 2}),
    [](const auto& info) { return std::string(info.param.name); });

// One model for the tests that only look at the contract.
class Forward : public testing::Test {
 protected:
  // The status of one step.
  absl::Status Step(std::span<const ForwardSequence> batch) {
    return runner_.model().Forward(batch, runner_.memory(), &logits_);
  }
  CachedSequence& NewSequence(int64_t pages) {
    CachedSequence& sequence = runner_.sequence(runner_.Add());
    EXPECT_TRUE(runner_.pool().Take(pages, &sequence.pages).ok());
    return sequence;
  }

  const TinyModel tiny_ = MakeTinyModel(TinyModelOptions());
  ModelRunner runner_{
      WriteTinyGguf(tiny_),
      {.load = {.max_tokens_per_step = 32, .max_logits_per_step = 4}}};
  std::unique_ptr<KvPolicy> policy_ = MakeFullPolicy();
  std::span<const float> logits_;
};

TEST_F(Forward, GivesLogitsOfTheLastTokensInTheOrderOfTheBatch) {
  const std::vector<int32_t> first = {5, 6, 7, 8}, second = {9, 10};
  const auto alone_first = runner_.Step(runner_.Add(), first, 2);
  const auto alone_second = runner_.Step(runner_.Add(), second, 1);
  CachedSequence &a = NewSequence(1), &b = NewSequence(1), &c = NewSequence(1);
  const ForwardSequence batch[] = {{&a, policy_.get(), first, 2},
                                   {&b, policy_.get(), first, 0},
                                   {&c, policy_.get(), second, 1}};

  ASSERT_TRUE(Step(batch).ok());

  const auto vocab = static_cast<size_t>(tiny_.config.vocab_size);
  ASSERT_EQ(logits_.size(), 3 * vocab);
  const auto row = [&](size_t i) {
    const auto part = logits_.subspan(i * vocab, vocab);
    return std::vector<float>(part.begin(), part.end());
  };
  EXPECT_EQ(row(0), alone_first[0]);
  EXPECT_EQ(row(1), alone_first[1]);
  EXPECT_EQ(row(2), alone_second[0]);
  EXPECT_EQ(a.num_tokens, 4);
  EXPECT_EQ(b.num_tokens, 4);
  EXPECT_EQ(c.num_tokens, 2);
}

TEST_F(Forward, DoesNothingForAnEmptyBatch) {
  ASSERT_TRUE(Step({}).ok());
  EXPECT_TRUE(logits_.empty());
}

// A policy that notes what it is given and attends to everything, or fails.
class NotingPolicy final : public KvPolicy {
 public:
  explicit NotingPolicy(std::string* notes, bool fails = false)
      : notes_(notes), fails_(fails) {}
  std::string_view name() const override { return "noting"; }
  std::unique_ptr<PolicyState> NewState(const KvOptions&) const override {
    return nullptr;
  }
  void OnAppend(std::span<const StepSequence> sequences) override {
    *notes_ += "append";
    for (const StepSequence& s : sequences) {
      *notes_ += " " + std::to_string(s.row_begin) + "+" +
                 std::to_string(s.tokens.size());
    }
    *notes_ += "; ";
  }
  absl::Status Attend(KvMemory& memory, const AttendInput& input) override {
    *notes_ += "attend " + std::to_string(input.layer) + " of " +
               std::to_string(input.kv_sequences.size()) + "; ";
    if (fails_) return absl::InternalError("no attention today");
    return MakeFullPolicy()->Attend(memory, input);
  }
  void OnRelease(CachedSequence&) override {}

 private:
  std::string* notes_;
  bool fails_;
};

TEST_F(Forward, GroupsSequencesByPolicy) {
  const std::vector<int32_t> two = {5, 6}, one = {7};
  const auto expected_two = runner_.Step(runner_.Add(), two, 1);
  const auto expected_one = runner_.Step(runner_.Add(), one, 1);
  std::string first_notes, second_notes;
  NotingPolicy first(&first_notes), second(&second_notes);
  CachedSequence &a = NewSequence(1), &b = NewSequence(1), &c = NewSequence(1);
  const ForwardSequence batch[] = {
      {&a, &first, two, 1}, {&b, &second, one, 1}, {&c, &first, two, 1}};

  ASSERT_TRUE(Step(batch).ok());

  EXPECT_EQ(first_notes, "append 0+2 3+2; attend 0 of 2; attend 1 of 2; ");
  EXPECT_EQ(second_notes, "append 2+1; attend 0 of 1; attend 1 of 1; ");
  const auto vocab = static_cast<size_t>(tiny_.config.vocab_size);
  for (size_t i = 0; i < vocab; ++i) {
    ASSERT_EQ(logits_[i], expected_two[0][i]);
    ASSERT_EQ(logits_[vocab + i], expected_one[0][i]);
    ASSERT_EQ(logits_[2 * vocab + i], expected_two[0][i]);
  }
}

TEST_F(Forward, LeavesSequencesAsTheyWereWhenAPolicyFails) {
  const std::vector<int32_t> tokens = {5, 6};
  std::string notes;
  NotingPolicy failing(&notes, /*fails=*/true);
  CachedSequence &a = NewSequence(1), &b = NewSequence(1);
  const ForwardSequence batch[] = {{&a, policy_.get(), tokens, 1},
                                   {&b, &failing, tokens, 1}};
  EXPECT_EQ(Step(batch).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(a.num_tokens, 0);
  EXPECT_EQ(b.num_tokens, 0);
  EXPECT_TRUE(logits_.empty());
}

TEST_F(Forward, RefusesBatchesThatBreakTheContract) {
  const std::vector<int32_t> one = {5}, bad = {1 << 20}, negative = {-1};
  const std::vector<int32_t> many(33, 5), nine(9, 5);
  CachedSequence& sequence = NewSequence(1);
  CachedSequence& full = NewSequence(33);
  full.num_tokens = 512;
  KvPolicy* const policy = policy_.get();
  const struct {
    ForwardSequence entry;
    const char* message;
  } cases[] = {
      {{nullptr, policy, one, 1}, "without sequence or policy"},
      {{&sequence, nullptr, one, 1}, "without sequence or policy"},
      {{&sequence, policy, {}, 0}, "logits wanted"},
      {{&sequence, policy, one, 2}, "logits wanted"},
      {{&sequence, policy, one, -1}, "logits wanted"},
      {{&sequence, policy, bad, 1}, "token: 1048576"},
      {{&sequence, policy, negative, 1}, "token: -1"},
      {{&sequence, policy, many, 1}, "pages a sequence needs: 3"},
      {{&full, policy, one, 1}, "length of a sequence: 513"},
      {{&sequence, policy, nine, 5}, "logits of the step: 5"},
  };
  for (const auto& c : cases) {
    const absl::Status status = Step(std::span(&c.entry, 1));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
  CachedSequence& wide = NewSequence(3);
  const ForwardSequence too_many{&wide, policy, many, 1};
  EXPECT_THAT(std::string(Step(std::span(&too_many, 1)).message()),
              HasSubstr("tokens of the step: 33"));
  EXPECT_EQ(sequence.num_tokens, 0);
}

TEST(LlamaModel, RefusesLimitsThatAreNotPositive) {
  const auto checkpoint =
      OpenCheckpoint(WriteTinyGguf(MakeTinyModel(TinyModelOptions())));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  auto backend = MakeCpuBackend({.num_threads = 1});
  ASSERT_TRUE(backend.ok());
  for (const auto& [tokens, logits] : {std::pair{0, 1}, {1, 0}, {-5, 1}}) {
    ModelLoadOptions options;
    options.max_tokens_per_step = tokens;
    options.max_logits_per_step = logits;
    EXPECT_EQ(LoadLlama(*checkpoint, *checkpoint->Config(), **backend, options)
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(LlamaModel, SaysWhatItIsAndHowFarLoadingHasCome) {
  const TinyModel tiny = MakeTinyModel(Typed(SourceType::kQ8_0));
  std::vector<double> progress;
  ModelRunnerOptions options;
  options.load.on_progress = [&progress](double done) {
    progress.push_back(done);
  };
  ModelRunner runner(WriteTinyGguf(tiny), options);
  const ModelInfo& info = runner.model().info();
  EXPECT_EQ(info.name, "Tiny");
  EXPECT_EQ(info.architecture, "llama");
  EXPECT_EQ(info.quantization, "Q8_0");
  EXPECT_EQ(info.num_layers, 2);
  EXPECT_EQ(info.num_heads, 4);
  EXPECT_EQ(info.num_kv_heads, 2);
  EXPECT_EQ(info.head_dim, 16);
  EXPECT_EQ(info.vocab_size, tiny.config.vocab_size);
  EXPECT_EQ(info.context_length, 512);
  int64_t parameters = 0;
  for (const TinyTensor& t : tiny.tensors) {
    parameters += static_cast<int64_t>(t.values.size());
  }
  EXPECT_EQ(info.num_parameters, parameters);
  EXPECT_GT(info.weight_bytes, parameters);
  EXPECT_LT(info.weight_bytes, 2 * parameters);  // no float copy
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  ASSERT_FALSE(progress.empty());
  EXPECT_EQ(progress.back(), 1.0);
}

}  // namespace
}  // namespace sentencekv
