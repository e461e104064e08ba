#include "tests/support/model_runner.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "engine/checkpoint.h"
#include "engine/llama_loader.h"
#include "engine/random_checkpoint.h"
#include "kernels/cpu/cpu_backend.h"

namespace sentencekv {
namespace {

[[noreturn]] void Fail(const absl::Status& status) {
  std::fprintf(stderr, "ModelRunner: %s\n", status.ToString().c_str());
  std::abort();
}

template <typename T>
T OrFail(absl::StatusOr<T> result) {
  if (!result.ok()) Fail(result.status());
  return *std::move(result);
}

void OrFail(const absl::Status& status) {
  if (!status.ok()) Fail(status);
}

}  // namespace

ModelRunner::ModelRunner(const std::string& path,
                         const ModelRunnerOptions& options) {
  CpuBackendOptions cpu;
  cpu.num_threads = options.num_threads;
  cpu.level = OrFail(ParseCpuLevel(options.cpu_level));
  if (options.num_frames > 0) cpu.own_memory = CopyTiming::kLatest;
  backend_ = options.make_backend ? options.make_backend()
                                  : OrFail(MakeCpuBackend(cpu));
  if (options.can_fail || options.on_selections || options.forgotten_waits) {
    auto observed = std::make_unique<FaultBackend>(std::move(backend_));
    observed->ObserveSelections(options.on_selections);
    if (const auto& waits = options.forgotten_waits) {
      observed->ForgetWaits(waits->first, waits->second);
    }
    faults_ = observed.get();
    backend_ = std::move(observed);
  }
  const Checkpoint checkpoint =
      OrFail(options.random_weights ? MakeRandomCheckpoint(path)
                                    : OpenCheckpoint(path));
  LlamaConfig config = OrFail(checkpoint.Config());
  if (options.context_length > 0) {
    config.context_length = options.context_length;
  }
  model_ = OrFail(LoadLlama(checkpoint, config, *backend_, options.load));
  const ModelInfo& info = model_->info();
  const KvLayout layout = {.num_layers = info.num_layers,
                           .num_pages = options.num_pages,
                           .num_kv_heads = info.num_kv_heads,
                           .head_dim = info.head_dim,
                           .dtype = options.kv_dtype};
  pool_ = OrFail(PagePool::Create(*backend_, layout));
  memory_ = OrFail(KvMemory::Create(
      *pool_, {.device_bytes = options.num_frames * layout.page_bytes(),
               .max_sequence_tokens = config.context_length,
               .host_chooses = options.host_chooses}));
  policy_ = MakeFullPolicy();
}

ModelRunner::~ModelRunner() {
  for (const auto& sequence : sequences_) memory_->Release(*sequence);
}

size_t ModelRunner::Add() { return Add(*policy_, {}, /*num_prompt=*/0); }

size_t ModelRunner::Add(KvPolicy& policy, const KvOptions& kv_options,
                        int64_t num_prompt) {
  policies_.push_back(&policy);
  sequences_.push_back(std::make_unique<CachedSequence>());
  sequences_.back()->num_prompt = num_prompt;
  sequences_.back()->policy_state = policy.NewState(kv_options);
  return sequences_.size() - 1;
}

void ModelRunner::End(size_t index) {
  memory_->Release(*sequences_[index]);
  pool_->Release(sequences_[index]->pages);
  sequences_[index]->pages.clear();
}

std::vector<std::vector<float>> ModelRunner::Step(std::span<const Feed> feeds) {
  std::vector<ForwardSequence> batch;
  for (const Feed& feed : feeds) {
    CachedSequence& sequence = *sequences_[feed.sequence];
    const int64_t length =
        sequence.num_tokens + static_cast<int64_t>(feed.tokens.size());
    const int64_t missing =
        PagesFor(length) - static_cast<int64_t>(sequence.pages.size());
    if (missing > 0) OrFail(pool_->Take(missing, &sequence.pages));
    batch.push_back(
        {&sequence, policies_[feed.sequence], feed.tokens, feed.num_logits});
  }
  std::span<const float> logits;
  OrFail(model_->Forward(batch, *memory_, &logits));
  const auto vocab = static_cast<size_t>(model_->info().vocab_size);
  std::vector<std::vector<float>> rows;
  for (size_t begin = 0; begin < logits.size(); begin += vocab) {
    const auto row = logits.subspan(begin, vocab);
    rows.emplace_back(row.begin(), row.end());
  }
  return rows;
}

std::vector<std::vector<float>> ModelRunner::Step(
    size_t sequence, std::span<const int32_t> tokens, int64_t num_logits) {
  const Feed feed{sequence, tokens, num_logits};
  return Step(std::span(&feed, 1));
}

std::vector<std::vector<float>> ModelRunner::RunAll(
    size_t sequence, std::span<const int32_t> tokens, int64_t chunk) {
  std::vector<std::vector<float>> all;
  for (size_t begin = 0; begin < tokens.size();
       begin += static_cast<size_t>(chunk)) {
    const auto part = tokens.subspan(
        begin, std::min(static_cast<size_t>(chunk), tokens.size() - begin));
    for (auto& row : Step(sequence, part, static_cast<int64_t>(part.size()))) {
      all.push_back(std::move(row));
    }
  }
  return all;
}

int32_t Greedy(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) -
                              logits.begin());
}

}  // namespace sentencekv
