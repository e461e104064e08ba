#include "tests/support/scripted_model.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/check.h"

namespace sentencekv {
namespace {

// Finaliser of SplitMix64, https://doi.org/10.1145/2714064.2660195.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Where a position's token id lies: a page's first head holds at least
// kPageTokens * 4 bytes.
std::byte* Slot(const KvLayerView& layer, const CachedSequence& sequence,
                int64_t position) {
  return layer.head(sequence.pages[position / kPageTokens], 0) +
         position % kPageTokens * sizeof(int32_t);
}

}  // namespace

ScriptedModel::ScriptedModel(const ScriptedModelOptions& options)
    : options_(options), logits_function_(HashLogits(1)) {
  info_.name = "scripted";
  info_.architecture = "llama";
  info_.quantization = "F32";
  info_.num_layers = 1;
  info_.num_heads = 1;
  info_.num_kv_heads = 1;
  info_.head_dim = 1;
  info_.vocab_size = options.vocab_size;
  info_.context_length = options.context_length;
}

KvLayout ScriptedModel::Layout(int64_t num_pages) {
  KvLayout layout;
  layout.num_layers = 1;
  layout.num_pages = num_pages;
  layout.num_kv_heads = 1;
  layout.head_dim = 1;
  layout.dtype = DType::kF16;
  return layout;
}

ScriptedModel::LogitsFunction ScriptedModel::HashLogits(uint64_t seed) {
  return [seed](std::span<const int32_t> history, std::span<float> logits) {
    uint64_t hash = seed;
    for (const int32_t token : history) hash = Mix(hash ^ token);
    for (size_t id = 0; id < logits.size(); ++id) {
      const uint64_t bits = Mix(hash + id) >> 40;  // 24 bits
      logits[id] = static_cast<float>(bits) / (1 << 21) - 4.0f;
    }
  };
}

ScriptedModel::LogitsFunction ScriptedModel::Recite(int64_t prompt_tokens,
                                                    std::string text,
                                                    int32_t last_id) {
  return [=](std::span<const int32_t> history, std::span<float> logits) {
    std::fill(logits.begin(), logits.end(), -10.0f);
    const int64_t index = static_cast<int64_t>(history.size()) - prompt_tokens;
    int32_t id = last_id;
    if (index >= 0 && index < static_cast<int64_t>(text.size())) {
      id = static_cast<unsigned char>(text[index]);
    }
    logits[id] = 10.0f;
  };
}

void ScriptedModel::FailForward(int64_t index, absl::Status status) {
  failures_[index] = std::move(status);
}

absl::Status ScriptedModel::Forward(std::span<const ForwardSequence> batch,
                                    KvMemory& memory,
                                    std::span<const float>* logits) {
  const int64_t index = num_forwards_++;
  if (on_forward_) on_forward_(batch);
  CheckContract(batch);
  const PagePool& pool = memory.pool();
  const KvLayerView layer = pool.layer(0);
  if (const auto failure = failures_.find(index); failure != failures_.end()) {
    for (const ForwardSequence& entry : batch) {
      for (size_t i = 0; i < entry.tokens.size(); ++i) {
        std::memset(
            Slot(layer, *entry.sequence, entry.sequence->num_tokens + i), 0xee,
            sizeof(int32_t));
      }
    }
    return failure->second;
  }
  logits_.clear();
  for (const ForwardSequence& entry : batch) RunSequence(entry, pool);
  *logits = logits_;
  return absl::OkStatus();
}

void ScriptedModel::CheckContract(
    std::span<const ForwardSequence> batch) const {
  int64_t num_tokens = 0;
  int64_t num_logits = 0;
  for (const ForwardSequence& entry : batch) {
    const int64_t count = static_cast<int64_t>(entry.tokens.size());
    SKV_CHECK(count >= 1);
    SKV_CHECK(entry.policy != nullptr);
    SKV_CHECK(entry.num_logits >= 0 && entry.num_logits <= count);
    const int64_t end = entry.sequence->num_tokens + count;
    SKV_CHECK(end <= options_.context_length);
    SKV_CHECK(static_cast<int64_t>(entry.sequence->pages.size()) >=
              PagesFor(end));
    for (const int32_t token : entry.tokens) {
      SKV_CHECK(token >= 0 && token < options_.vocab_size);
    }
    num_tokens += count;
    num_logits += entry.num_logits;
  }
  SKV_CHECK(num_tokens >= 1 && num_tokens <= options_.max_tokens_per_step);
  SKV_CHECK(num_logits <= options_.max_logits_per_step);
}

void ScriptedModel::RunSequence(const ForwardSequence& entry,
                                const PagePool& pool) {
  const KvLayerView layer = pool.layer(0);
  CachedSequence& sequence = *entry.sequence;
  for (const int32_t token : entry.tokens) {
    std::memcpy(Slot(layer, sequence, sequence.num_tokens++), &token,
                sizeof(token));
  }
  if (entry.num_logits == 0) return;
  history_.resize(sequence.num_tokens);
  for (int64_t position = 0; position < sequence.num_tokens; ++position) {
    std::memcpy(&history_[position], Slot(layer, sequence, position),
                sizeof(int32_t));
  }
  const size_t vocab_size = static_cast<size_t>(options_.vocab_size);
  for (int64_t row = entry.num_logits - 1; row >= 0; --row) {
    logits_.resize(logits_.size() + vocab_size);
    logits_function_(std::span<const int32_t>(history_).first(
                         history_.size() - static_cast<size_t>(row)),
                     std::span<float>(logits_).last(vocab_size));
  }
}

}  // namespace sentencekv
