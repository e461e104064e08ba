#include "kernels/cpu/sentence_index.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/kv_element.h"
#include "kernels/cpu/row_tiles.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"

namespace sentencekv {
namespace {

// Key elements, and products with entries, that keep a thread busy for about 10
// microseconds: more than waking it costs.
constexpr int64_t kMeanElements = 8 * 1024;
constexpr int64_t kScoreProducts = 128 * 1024;

// Adds the keys of positions begin..end-1 of one page to `sums`, [D].
void AddKeys(const std::byte* page, const KvLayout& layout, int64_t begin,
             int64_t end, float* sums) {
  for (int64_t d = 0; d < layout.head_dim; ++d) {
    for (int64_t t = begin; t < end; ++t) {
      sums[d] += KvElement(page, layout.dtype, d * kPageTokens + t);
    }
  }
}

void WriteEntry(const float* sums, int64_t head_dim, int64_t num_tokens,
                int64_t entry, std::byte* blocks) {
  std::byte* block =
      blocks + entry / kBlockEntries * SentenceBlockBytes(head_dim);
  const int64_t slot = entry % kBlockEntries;
  float highest = 0;
  for (int64_t d = 0; d < head_dim; ++d) {
    highest = std::max(highest, std::fabs(sums[d]));
  }
  const float inverse = highest > 0 ? 127.0f / highest : 0.0f;
  for (int64_t d = 0; d < head_dim; ++d) {
    const auto value = static_cast<int8_t>(std::lrint(sums[d] * inverse));
    block[d * kBlockEntries + slot] = static_cast<std::byte>(value);
  }
  const float unit = highest / 127.0f / static_cast<float>(num_tokens);
  std::memcpy(block + head_dim * kBlockEntries + slot * 4, &unit, sizeof(unit));
}

void IndexOne(const KvLayerView& kv, const SentenceIndexItem& item,
              std::vector<float>& sums) {
  const KvLayout& layout = kv.layout;
  for (int64_t g = 0; g < layout.num_kv_heads; ++g) {
    sums.assign(static_cast<size_t>(layout.head_dim), 0.0f);
    for (int64_t p = item.begin; p < item.end;) {
      const int64_t page = p / kPageTokens;
      const int64_t stop = std::min(item.end, (page + 1) * kPageTokens);
      AddKeys(kv.head(item.pages[page], g), layout, p % kPageTokens,
              stop - page * kPageTokens, sums.data());
      p = stop;
    }
    WriteEntry(sums.data(), layout.head_dim, item.end - item.begin, item.entry,
               item.blocks + g * item.head_stride);
  }
}

}  // namespace

void RunIndexSentences(WorkerPool& pool, const IndexSentencesParams& params) {
  const KvLayout& layout = params.kv.layout;
  int64_t elements = 0;
  for (int64_t i = 0; i < params.num_items; ++i) {
    elements += (params.items[i].end - params.items[i].begin) *
                layout.num_kv_heads * layout.head_dim;
  }
  const int64_t least = kMeanElements * params.num_items / elements;
  ForRowTiles(pool, params.num_items, least, [&](int64_t begin, int64_t end) {
    std::vector<float> sums;
    for (int64_t i = begin; i < end; ++i) {
      IndexOne(params.kv, params.items[i], sums);
    }
  });
}

void RunScoreSentences(WorkerPool& pool, const ScoreSentencesParams& params,
                       ScoreSentencesKernel kernel) {
  int64_t entries = 0;
  int64_t most = 0;
  for (int64_t i = 0; i < params.num_items; ++i) {
    entries += params.items[i].num_entries;
    most = std::max(most, params.items[i].num_entries);
  }
  const int64_t products = entries * params.num_heads * params.head_dim;
  const int64_t least = kScoreProducts * params.num_items / products;
  const auto floats =
      static_cast<size_t>(5 * kBlockEntries * SentenceBlocks(most));
  ForRowTiles(pool, params.num_items, least, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(floats);
    for (int64_t i = begin; i < end; ++i) {
      kernel(params.items[i], params.num_heads, params.head_dim, params.scale,
             scratch.data());
    }
  });
}

}  // namespace sentencekv
