// Blocks of 64 keys and of 64 values of one KV head on their way through shared
// memory, as the pages have them: cp.async fills some slots of a ring while one
// is read. Device code, for .cu files; all threads of a block call.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_tile.h"
#include "kernels/cuda/ptx.h"

namespace sentencekv {

// Elements of a token in shared memory: an odd number of 16 bytes, so that the
// eight rows that ldmatrix reads at a time begin in different banks.
__host__ __device__ constexpr int64_t RingStride(int64_t head_dim) {
  return head_dim + 8;
}

// Items are K and V of the first block, K and V of the second and so on.
template <typename T, int kSlots>
struct TokenRing {
  static constexpr int kTokensOfPage = static_cast<int>(kPageTokens);

  const AttentionLaunch& launch;
  const QueryTile& tile;
  T* slots;               // [kSlots][64][RingStride]
  int64_t next_item = 0;  // to be copied
  int64_t end_item = 0;
  int load_slot = 0;
  int take_slot = 0;

  __device__ __forceinline__ int stride() const {
    return static_cast<int>(RingStride(launch.kv.head_dim));
  }
  __device__ __forceinline__ T* Slot(int slot) const {
    return slots + slot * kBlockTokens * stride();
  }

  // Begins to copy blocks begin..end-1, as far as there are slots.
  __device__ __forceinline__ void Start(int64_t begin, int64_t end) {
    next_item = 2 * begin;
    end_item = 2 * end;
#pragma unroll
    for (int i = 0; i + 1 < kSlots; ++i) LoadItem();
  }

  // Waits for the next item and gives it; begins to copy another into the slot
  // that was read before.
  __device__ __forceinline__ const T* TakeItem() {
    CpAsyncWait<kSlots - 2>();
    __syncthreads();  // all copies have arrived, all readers are done
    LoadItem();
    const T* item = Slot(take_slot);
    take_slot = take_slot + 1 == kSlots ? 0 : take_slot + 1;
    return item;
  }

  // Begins to copy the next item, if there is one, as a group of its own.
  // Tokens that are not present become zeros.
  __device__ __forceinline__ void LoadItem() {
    // A thread has eight dimensions of some tokens. Tokens have a power of two
    // of threads: no division.
    const auto dim = static_cast<int>(launch.kv.head_dim);
    unsigned shift = 0;
    while ((8 << shift) < dim) ++shift;
    const auto d = static_cast<int>(threadIdx.x & ((1u << shift) - 1)) * 8;
    if (next_item < end_item && d < dim) {
      const int64_t block = next_item / 2;
      const uint64_t present = PresentTokens(launch, tile, block);
      const int half = static_cast<int>(next_item % 2) * kTokensOfPage * dim;
      const int32_t* pages =
          launch.pages + tile.page_begin + block * kBlockPages;
      const std::byte* base =
          launch.kv.base + (tile.kv_head + blockIdx.y) * launch.kv.head_stride;
      T* const to = Slot(load_slot) + d;
#pragma unroll
      for (int i = 0; i < kBlockPages; ++i) {
        const auto bits = static_cast<unsigned>(present >> (i * kTokensOfPage));
        const int64_t page = (bits & 0xffffu) != 0 ? pages[i] : 0;
        const T* from =
            reinterpret_cast<const T*>(base + page * launch.kv.page_stride) +
            half + d;
        for (unsigned t = threadIdx.x >> shift; t < kTokensOfPage;
             t += blockDim.x >> shift) {
          CpAsync16(to + (i * kTokensOfPage + t) * stride(), from + t * dim,
                    (bits >> t & 1) != 0);
        }
      }
    }
    CpAsyncCommit();
    ++next_item;
    load_slot = load_slot + 1 == kSlots ? 0 : load_slot + 1;
  }
};

}  // namespace sentencekv
