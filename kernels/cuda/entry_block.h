// How entries of sentences lie on CUDA: the blocks of kernels/sentence_block.h,
// but a vector is [D / 8][16 entries][8] int8 and then [16] f32 units, so that
// 16 neighbouring lanes, each with an entry, read 128 neighbouring bytes.
// Device code, for .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/kv_layout.h"
#include "kernels/sentence_block.h"

namespace sentencekv {

// Elements of an entry that lie together.
inline constexpr int64_t kEntryRun = 8;

// Where element d of an entry lies in its vector.
__device__ __forceinline__ int64_t EntryElement(int64_t slot, int64_t d) {
  return (d / kEntryRun * kBlockEntries + slot) * kEntryRun + d % kEntryRun;
}

__device__ __forceinline__ int64_t EntryVectorBytes(int64_t head_dim) {
  return kBlockEntries * (head_dim + static_cast<int64_t>(sizeof(float)));
}

// The first vector of the block of an entry.
__device__ __forceinline__ int64_t EntryBlockOffset(SentenceIndexKind kind,
                                                    int64_t entry,
                                                    int64_t head_dim) {
  const int64_t vectors = kind == SentenceIndexKind::kMean ? 1 : 2;
  return entry / kBlockEntries * vectors * EntryVectorBytes(head_dim);
}

// What the elements of an entry are in units of.
__device__ __forceinline__ float EntryUnit(const std::byte* vector,
                                           int64_t slot, int64_t head_dim) {
  return reinterpret_cast<const float*>(vector +
                                        kBlockEntries * head_dim)[slot];
}

// Bytes of the signs of 16 tokens: [D] uint16.
__device__ __forceinline__ int64_t StripBytes(int64_t head_dim) {
  return head_dim * static_cast<int64_t>(sizeof(uint16_t));
}

}  // namespace sentencekv
