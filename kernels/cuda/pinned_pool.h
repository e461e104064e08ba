// Host memory that the device copies from and to.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sentencekv {

struct PinnedPoolOptions {
  // Where memory should come from: the node that the device is attached to;
  // -1: wherever there is some.
  int numa_node = -1;
  // Drivers refuse to lock much more at once. A multiple of the huge page.
  size_t piece_bytes = size_t{64} << 30;
  // Where the limits of the system are read.
  std::string root = "/";
};

// Locked memory is taken for good: a container's limit must hold all of it,
// which is checked before. One thread.
class PinnedPool {
 public:
  explicit PinnedPool(PinnedPoolOptions options)
      : options_(std::move(options)) {}

  // Zero-filled; on huge pages where the system has them. kResourceExhausted
  // with the limit that stands against it; then nothing is held.
  absl::StatusOr<std::byte*> Allocate(size_t size_bytes);
  // `size_bytes` as it was allocated. Nothing may use the memory any more.
  void Free(std::byte* data, size_t size_bytes);

  size_t held_bytes() const;
  // How far a copy that begins here may go: to the end of the piece, as no copy
  // may touch two. SIZE_MAX where it is not our memory.
  size_t BytesLeftInPiece(const void* address) const;

 private:
  // Locks all of it, piece by piece, or nothing.
  absl::Status Lock(std::byte* data, size_t size_bytes) const;
  // Unlocks the first `size_bytes`, which is a whole number of pieces or all.
  void Unlock(std::byte* data, size_t size_bytes) const;

  const PinnedPoolOptions options_;
  std::map<const std::byte*, size_t, std::less<>> blocks_;  // sizes
};

}  // namespace sentencekv
