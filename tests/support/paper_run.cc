#include "tests/support/paper_run.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"

namespace sentencekv {

PaperRunner::PaperRunner(const std::string& path,
                         std::vector<int32_t> sentence_ends,
                         ModelRunnerOptions options) {
  options.on_selections = [this](const SelectedAttentionParams& params) {
    Note(params);
  };
  runner_ = std::make_unique<ModelRunner>(path, options);
  const ModelInfo& info = runner_->model().info();
  policy_ = MakeSentencePaperPolicy(
      {info.num_layers, info.num_heads, info.num_kv_heads, info.head_dim},
      std::move(sentence_ends));
}

void PaperRunner::Note(const SelectedAttentionParams& params) {
  for (int64_t i = 0; i < params.num_selections; ++i) {
    const SelectedTokens& selected = params.selections[i];
    reads_.push_back({params.kv.base,
                      selected.row,
                      selected.kv_head,
                      {selected.pages, selected.pages + selected.num_pages},
                      {selected.masks, selected.masks + selected.num_pages}});
  }
}

std::vector<PaperRun::Heads> PaperRunner::TakeAttended(size_t sequence,
                                                       int64_t row) {
  const ModelInfo& info = runner_->model().info();
  const std::vector<int32_t>& table = runner_->sequence(sequence).pages;
  std::vector<PaperRun::Heads> attended(
      static_cast<size_t>(info.num_layers),
      PaperRun::Heads(static_cast<size_t>(info.num_kv_heads)));
  for (const Read& read : reads_) {
    if (read.row != row) continue;
    int64_t layer = 0;
    while (runner_->pool().layer(layer).base != read.layer) ++layer;
    auto& positions =
        attended[static_cast<size_t>(layer)][static_cast<size_t>(read.kv_head)];
    SKV_CHECK(positions.empty());
    for (size_t i = 0; i < read.pages.size(); ++i) {
      const auto page = std::find(table.begin(), table.end(), read.pages[i]);
      SKV_CHECK(page != table.end());
      for (int32_t t = 0; t < kPageTokens; ++t) {
        if (!(read.masks[i] >> t & 1)) continue;
        positions.push_back(
            static_cast<int32_t>((page - table.begin()) * kPageTokens) + t);
      }
    }
  }
  reads_.clear();
  return attended;
}

size_t PaperRunner::Add(const KvOptions& options,
                        std::span<const int32_t> prompt) {
  SKV_CHECK(ValidateSentencePaperOptions(options).ok());
  return runner_->Add(*policy_, options, std::ssize(prompt));
}

std::vector<float> PaperRunner::Prefill(size_t sequence,
                                        std::span<const int32_t> prompt,
                                        int64_t chunk) {
  chunk = std::min(chunk, runner_->model().max_tokens_per_step());
  const auto done = static_cast<size_t>(runner_->sequence(sequence).num_tokens);
  std::vector<float> logits;
  for (size_t begin = done; begin < prompt.size();
       begin += static_cast<size_t>(chunk)) {
    const size_t count =
        std::min(prompt.size() - begin, static_cast<size_t>(chunk));
    logits = runner_->Step(sequence, prompt.subspan(begin, count)).front();
  }
  return logits;
}

PaperRun PaperRunner::Generate(size_t sequence, std::vector<float> logits,
                               size_t num_tokens) {
  PaperRun run;
  reads_.clear();
  while (run.ids.size() < num_tokens) {
    run.ids.push_back(Greedy(logits));
    run.logits.push_back(std::move(logits));
    const std::vector<int32_t> input = {run.ids.back()};
    logits = runner_->Step(sequence, input).front();
    run.attended.push_back(TakeAttended(sequence));
  }
  return run;
}

PaperRun PaperRunner::Run(const KvOptions& options,
                          std::span<const int32_t> prompt, size_t num_tokens,
                          int64_t chunk) {
  const size_t sequence = Add(options, prompt);
  PaperRun run =
      Generate(sequence, Prefill(sequence, prompt, chunk), num_tokens);
  runner_->End(sequence);
  runner_->sequence(sequence).pages.clear();
  return run;
}

}  // namespace sentencekv
