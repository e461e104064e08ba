// Runs of the policy sentence-paper: what was read at each step.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cache/sentence_paper_policy.h"
#include "tests/support/model_runner.h"

namespace sentencekv {

struct PaperRun {
  std::vector<int32_t> ids;                // greedy
  std::vector<std::vector<float>> logits;  // that chose them
  // Positions read when ids[step] is the input: [step][layer][KV head].
  using Heads = std::vector<std::vector<int32_t>>;
  std::vector<std::vector<Heads>> attended;

  // Positions of the prompt that a head kept. The first step reads all.
  std::vector<int32_t> Kept(size_t layer, size_t head) const {
    std::vector<int32_t> kept = attended.at(0)[layer][head];
    kept.pop_back();
    return kept;
  }
};

// A model whose selections are noted. Failures abort, as ModelRunner's do.
class PaperRunner {
 public:
  PaperRunner(const std::string& path, std::vector<int32_t> sentence_ends,
              ModelRunnerOptions options = {});

  // A sequence that has read `prompt` in steps of `chunk` tokens.
  size_t Add(const KvOptions& options, std::span<const int32_t> prompt);
  std::vector<float> Prefill(size_t sequence, std::span<const int32_t> prompt,
                             int64_t chunk);
  // Generates from the logits that Prefill gave.
  PaperRun Generate(size_t sequence, std::vector<float> logits,
                    size_t num_tokens);
  PaperRun Run(const KvOptions& options, std::span<const int32_t> prompt,
               size_t num_tokens, int64_t chunk = 1 << 20);

  ModelRunner& runner() { return *runner_; }
  KvPolicy& policy() { return *policy_; }
  // What was read since the last call, of one row and sequence.
  std::vector<PaperRun::Heads> TakeAttended(size_t sequence, int64_t row = 0);

 private:
  struct Read {
    const std::byte* layer;
    int64_t row, kv_head;
    std::vector<int32_t> pages;
    std::vector<uint16_t> masks;
  };
  void Note(const SelectedAttentionParams& params);

  std::vector<Read> reads_;
  std::unique_ptr<KvPolicy> policy_;
  std::unique_ptr<ModelRunner> runner_;
};

}  // namespace sentencekv
