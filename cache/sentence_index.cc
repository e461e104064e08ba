#include "cache/sentence_index.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"
#include "kernels/sentence_block.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// The first allocation: 64 sentences, and as many tokens as they have at the
// least.
constexpr int64_t kLeastBlocks = 4;
constexpr int64_t kLeastStrips = 32;

}  // namespace

absl::Status PerHeadMemory::Reserve(Backend& backend, int64_t num_units) {
  if (num_units <= capacity_) return absl::OkStatus();
  const int64_t capacity =
      std::max({num_units, capacity_ + capacity_ / 8, least_units_});
  const int64_t num_heads = shape_.num_layers * shape_.num_kv_heads;
  SKV_ASSIGN_OR_RETURN(
      Buffer grown,
      backend.Allocate(static_cast<size_t>(num_heads * capacity * unit_bytes_),
                       MemoryUse::kSentenceIndex));
  SKV_RETURN_IF_ERROR(
      backend.CopyRows({.source = memory_.as<std::byte>(),
                        .source_stride = stride(),
                        .destination = grown.as<std::byte>(),
                        .destination_stride = capacity * unit_bytes_,
                        .row_bytes = stride(),
                        .num_rows = num_heads}));
  memory_ = std::move(grown);
  capacity_ = capacity;
  return absl::OkStatus();
}

SentenceIndex::SentenceIndex(const ModelShape& shape, SentenceIndexKind kind)
    : shape_(shape),
      kind_(kind),
      blocks_(shape, SentenceBlockBytes(kind, shape.head_dim), kLeastBlocks),
      signs_(shape, SignStripBytes(shape.head_dim), kLeastStrips) {}

absl::Status SentenceIndex::Reserve(Backend& backend, int64_t num_entries,
                                    int64_t num_tokens) {
  SKV_RETURN_IF_ERROR(blocks_.Reserve(backend, SentenceBlocks(num_entries)));
  if (kind_ != SentenceIndexKind::kSign) return absl::OkStatus();
  return signs_.Reserve(backend, (num_tokens + kPageTokens - 1) / kPageTokens);
}

void SentenceIndex::SetPrior(int64_t layer, int64_t kv_head,
                             std::vector<float> prior) {
  priors_.resize(static_cast<size_t>(shape_.num_layers * shape_.num_kv_heads));
  priors_[static_cast<size_t>(layer * shape_.num_kv_heads + kv_head)] =
      std::move(prior);
}

const float* SentenceIndex::prior(int64_t layer, int64_t kv_head,
                                  int64_t num_entries) {
  if (priors_.empty()) return nullptr;
  std::vector<float>& prior =
      priors_[static_cast<size_t>(layer * shape_.num_kv_heads + kv_head)];
  if (static_cast<int64_t>(prior.size()) < num_entries) {
    prior.resize(static_cast<size_t>(num_entries), 0.0f);
  }
  return prior.data();
}

}  // namespace sentencekv
