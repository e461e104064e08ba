#include "cache/sentence_index.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"
#include "kernels/sentence_block.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Blocks of the first allocation: 256 sentences.
constexpr int64_t kLeastBlocks = 16;

}  // namespace

absl::Status SentenceIndex::Reserve(Backend& backend, int64_t num_entries) {
  const int64_t wanted = SentenceBlocks(num_entries);
  if (wanted <= capacity_blocks_) return absl::OkStatus();
  const int64_t capacity =
      std::max({wanted, 2 * capacity_blocks_, kLeastBlocks});
  const int64_t num_heads = shape_.num_layers * shape_.num_kv_heads;
  const int64_t block_bytes = SentenceBlockBytes(shape_.head_dim);
  SKV_ASSIGN_OR_RETURN(Buffer grown, backend.Allocate(static_cast<size_t>(
                                         num_heads * capacity * block_bytes)));
  const auto used = static_cast<size_t>(capacity_blocks_ * block_bytes);
  std::vector<std::byte> head(used);
  for (int64_t i = 0; i < num_heads && used > 0; ++i) {
    const int64_t blocks = i * block_bytes;
    SKV_RETURN_IF_ERROR(backend.CopyToHost(
        head.data(), memory_.as<std::byte>() + blocks * capacity_blocks_,
        used));
    SKV_RETURN_IF_ERROR(backend.CopyToDevice(
        grown.as<std::byte>() + blocks * capacity, head.data(), used));
  }
  memory_ = std::move(grown);
  capacity_blocks_ = capacity;
  return absl::OkStatus();
}

int64_t SentenceIndex::head_stride() const {
  return capacity_blocks_ * SentenceBlockBytes(shape_.head_dim);
}

std::byte* SentenceIndex::blocks(int64_t layer, int64_t kv_head) const {
  return memory_.as<std::byte>() +
         (layer * shape_.num_kv_heads + kv_head) * head_stride();
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
