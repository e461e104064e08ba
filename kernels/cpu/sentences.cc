#include "kernels/cpu/sentences.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/kv_element.h"
#include "kernels/cpu/row_tiles.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"

namespace sentencekv {
namespace {

// Key elements, and products with entries, that keep a thread busy for about 10
// microseconds: more than waking it costs.
constexpr int64_t kIndexElements = 64 * 1024;
constexpr int64_t kScoreProducts = 128 * 1024;
// Scores that a thread keeps while it computes attention mass: 1 MiB.
constexpr int64_t kMassScores = int64_t{1} << 18;

// The scratch of the calling thread, kept from one operation to the next.
float* Scratch(int64_t num_floats) {
  thread_local std::vector<float> scratch;
  if (static_cast<int64_t>(scratch.size()) < num_floats) {
    scratch.resize(static_cast<size_t>(num_floats));
  }
  return scratch.data();
}

}  // namespace

void RunIndexSentences(WorkerPool& pool, const IndexSentencesParams& params,
                       const SentenceKernels& kernels) {
  const KvLayout& layout = params.kv.layout;
  int64_t elements = 0;
  for (int64_t i = 0; i < params.num_items; ++i) {
    elements += (params.items[i].end - params.items[i].begin) *
                layout.num_kv_heads * layout.head_dim;
  }
  const int64_t least = kIndexElements * params.num_items / elements;
  ForRowTiles(pool, params.num_items, least, [&](int64_t begin, int64_t end) {
    float* const scratch = Scratch(2 * layout.head_dim);
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t g = 0; g < layout.num_kv_heads; ++g) {
        kernels.index(params.kv, params.items[i], g, scratch);
      }
    }
  });
}

void RunScoreSentences(WorkerPool& pool, const ScoreSentencesParams& params,
                       const SentenceKernels& kernels) {
  int64_t elements = 0;
  int64_t most = 0;
  for (int64_t i = 0; i < params.num_items; ++i) {
    const SentenceScoreItem& item = params.items[i];
    // Signs are looked at for every token of a sentence.
    elements += item.kind == SentenceIndexKind::kSign
                    ? item.ends[item.num_entries - 1]
                    : item.num_entries * NumEntryVectors(item.kind);
    most = std::max(most, item.num_entries);
  }
  const int64_t products = elements * params.num_heads * params.head_dim;
  const int64_t least = kScoreProducts * params.num_items / products;
  ForRowTiles(pool, params.num_items, least, [&](int64_t begin, int64_t end) {
    float* const scratch =
        Scratch(ScoreScratchFloats(most, params.num_heads, params.head_dim));
    for (int64_t i = begin; i < end; ++i) {
      kernels.score(params.items[i], params.num_heads, params.head_dim,
                    params.scale, scratch);
    }
  });
}

void RunAttentionMass(WorkerPool& pool, const AttentionMassParams& params,
                      const SentenceKernels& kernels) {
  const int64_t num_keys = params.first_position + params.num_queries;
  const int64_t padded =
      (num_keys + kPageTokens - 1) / kPageTokens * kPageTokens;
  const int64_t block =
      std::clamp<int64_t>(kMassScores / padded, 1, params.num_queries);
  pool.ParallelFor(params.num_heads, [&](int64_t head) {
    kernels.mass(params, head, block, Scratch(block * padded));
  });
}

void RunReadKeys(WorkerPool& /*pool*/, const ReadKeysParams& params) {
  const KvLayout& layout = params.kv.layout;
  for (int64_t i = 0; i < params.num_positions; ++i) {
    const int64_t position = params.positions[i];
    const std::byte* from =
        params.kv.head(params.pages[position / kPageTokens], params.kv_head);
    float* const out = params.out + i * layout.head_dim;
    for (int64_t d = 0; d < layout.head_dim; ++d) {
      out[d] = KvElement(from, layout.dtype,
                         d * kPageTokens + position % kPageTokens);
    }
  }
}

}  // namespace sentencekv
