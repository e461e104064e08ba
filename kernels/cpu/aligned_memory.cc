#include "kernels/cpu/aligned_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>

#include "kernels/check.h"
#include "kernels/rounding.h"

namespace sentencekv {
namespace {

constexpr size_t kHugePageBytes = size_t{1} << 21;

// Maps a multiple of the huge page size at such an address, by mapping one
// page more and giving back both ends.
std::byte* MapHuge(size_t size_bytes) {
  const size_t mapped_bytes = size_bytes + kHugePageBytes;
  void* mapped = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(mapped);
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const size_t before = RoundUp(address, kHugePageBytes) - address;
  if (before > 0) munmap(begin, before);
  std::byte* data = begin + before;
  munmap(data + size_bytes, kHugePageBytes - before);
  // Advice only: where there are no huge pages, small ones serve.
  madvise(data, size_bytes, MADV_HUGEPAGE);
  return data;
}

constexpr size_t kChunkBytes = size_t{32} << 20;

}  // namespace

std::byte* AllocateAligned(size_t size_bytes) {
  if (size_bytes > std::numeric_limits<size_t>::max() - 2 * kHugePageBytes) {
    return nullptr;
  }
  if (size_bytes >= kHugePageBytes) {
    return MapHuge(RoundUp(size_bytes, kHugePageBytes));
  }
  const size_t rounded =
      RoundUp(size_bytes == 0 ? 1 : size_bytes, kCacheLineBytes);
  void* data = std::aligned_alloc(kCacheLineBytes, rounded);
  if (data != nullptr) std::memset(data, 0, rounded);
  return static_cast<std::byte*>(data);
}

void PopulateMemory(std::byte* data, size_t size_bytes) {
#ifdef MADV_POPULATE_WRITE
  constexpr size_t kPageBytes = 4096;
  const auto address = reinterpret_cast<uintptr_t>(data);
  const size_t before = RoundUp(address, kPageBytes) - address;
  if (size_bytes < before + kPageBytes) return;
  const size_t whole = (size_bytes - before) / kPageBytes * kPageBytes;
  madvise(data + before, whole, MADV_POPULATE_WRITE);
#else
  (void)data;
  (void)size_bytes;
#endif
}

void FreeAligned(std::byte* data, size_t size_bytes) {
  if (data == nullptr) return;
  if (size_bytes >= kHugePageBytes) {
    munmap(data, RoundUp(size_bytes, kHugePageBytes));
  } else {
    std::free(data);
  }
}

HugePageArena::~HugePageArena() {
  for (const Chunk& chunk : chunks_) FreeAligned(chunk.data, kChunkBytes);
}

std::byte* HugePageArena::Allocate(size_t size_bytes) {
  SKV_CHECK(size_bytes < kMaxBlockBytes);
  const size_t rounded = RoundUp(size_bytes, kCacheLineBytes);
  if (chunks_.empty() || chunks_.back().used_bytes + rounded > kChunkBytes) {
    std::byte* data = AllocateAligned(kChunkBytes);
    if (data == nullptr) return nullptr;
    chunks_.push_back({data, 0, 0});
  }
  Chunk& chunk = chunks_.back();
  std::byte* block = chunk.data + chunk.used_bytes;
  chunk.used_bytes += rounded;
  ++chunk.num_blocks;
  return block;
}

void HugePageArena::Free(std::byte* data) {
  const auto chunk =
      std::find_if(chunks_.begin(), chunks_.end(), [&](const Chunk& candidate) {
        return !std::less<>()(data, candidate.data) &&
               std::less<>()(data, candidate.data + kChunkBytes);
      });
  SKV_CHECK(chunk != chunks_.end());
  if (--chunk->num_blocks > 0) return;
  FreeAligned(chunk->data, kChunkBytes);
  chunks_.erase(chunk);
}

}  // namespace sentencekv
