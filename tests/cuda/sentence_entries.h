// Entries of the sentences of a PagedStep, as either backend keeps them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/backend.h"
#include "kernels/sentence_block.h"
#include "tests/support/paged_sequences.h"

namespace sentencekv {

// Sentences of all sorts of lengths, up to num_tokens.
inline std::vector<int32_t> SomeEnds(int32_t num_tokens) {
  std::vector<int32_t> ends;
  for (int32_t p = 0; p < num_tokens;) {
    p = std::min(num_tokens, p + 1 + p * 7 % 40);
    ends.push_back(p);
  }
  return ends;
}

// Where element d of an entry lies in its vector: on the CPU, where those of
// deviations lie by entry, and on CUDA.
inline int64_t CpuElement(bool is_deviation, int64_t dim, int64_t slot,
                          int64_t d) {
  return is_deviation ? slot * dim + d : d * kBlockEntries + slot;
}
inline int64_t CudaElement(int64_t slot, int64_t d) {
  return (d / 8 * kBlockEntries + slot) * 8 + d % 8;
}

// An index of several KV heads; all zeros at first.
struct SentenceEntries {
  SentenceEntries(SentenceIndexKind kind, int64_t dim, int64_t num_heads,
                  std::vector<int32_t> sentence_ends)
      : kind(kind), dim(dim), num_heads(num_heads), ends(sentence_ends) {
    head_bytes = SentenceBlocks(count()) * SentenceBlockBytes(kind, dim);
    sign_bytes =
        (ends.back() + kPageTokens - 1) / kPageTokens * SignStripBytes(dim);
    blocks.resize(static_cast<size_t>(num_heads * head_bytes));
    signs.resize(static_cast<size_t>(num_heads * sign_bytes));
  }

  int64_t count() const { return std::ssize(ends); }
  int64_t begin(int64_t entry) const {
    return entry == 0 ? 0 : ends[entry - 1];
  }
  // Offset of one of the vectors of an entry's block.
  int64_t VectorOffset(int64_t head, int64_t entry, int64_t vector) const {
    return head * head_bytes +
           entry / kBlockEntries * SentenceBlockBytes(kind, dim) +
           vector * SentenceVectorBytes(dim);
  }
  // What the elements of an entry's vector are in units of.
  float Unit(int64_t head, int64_t entry, int64_t vector) const {
    float unit;
    std::memcpy(&unit,
                blocks.data() + VectorOffset(head, entry, vector) +
                    dim * kBlockEntries + entry % kBlockEntries * sizeof(unit),
                sizeof(unit));
    return unit;
  }
  bool Sign(int64_t head, int64_t position, int64_t d) const {
    uint16_t bits;
    std::memcpy(&bits,
                signs.data() + head * sign_bytes +
                    position / kPageTokens * SignStripBytes(dim) + d * 2,
                sizeof(bits));
    return (bits >> (position % kPageTokens) & 1) != 0;
  }

  // Entries of all sentences, by the CPU.
  void Build(Backend& cpu, const PagedStep& step) {
    std::vector<SentenceIndexItem> items;
    for (int64_t i = 0; i < count(); ++i) {
      items.push_back({.kind = kind,
                       .pages = step.sequences()[0].pages,
                       .begin = begin(i),
                       .end = ends[i],
                       .entry = i,
                       .blocks = blocks.data(),
                       .head_stride = head_bytes,
                       .signs = signs.data(),
                       .sign_stride = sign_bytes});
    }
    EXPECT_TRUE(
        cpu.IndexSentences(
               {.kv = step.view(), .items = items.data(), .num_items = count()})
            .ok());
  }

  // The blocks of the CPU, as CUDA keeps them.
  std::vector<std::byte> TurnedBlocks() const {
    std::vector<std::byte> turned = blocks;
    const int64_t vectors = std::ssize(blocks) / SentenceVectorBytes(dim);
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t offset = v * SentenceVectorBytes(dim);
      const bool is_deviation = kind == SentenceIndexKind::kSign && v % 2 == 1;
      for (int64_t slot = 0; slot < kBlockEntries; ++slot) {
        for (int64_t d = 0; d < dim; ++d) {
          turned[offset + CudaElement(slot, d)] =
              blocks[offset + CpuElement(is_deviation, dim, slot, d)];
        }
      }
    }
    return turned;
  }

  SentenceIndexKind kind;
  int64_t dim;
  int64_t num_heads;
  std::vector<int32_t> ends;
  int64_t head_bytes = 0;
  int64_t sign_bytes = 0;
  std::vector<std::byte> blocks;
  std::vector<std::byte> signs;
};

}  // namespace sentencekv
