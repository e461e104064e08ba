// Random programs of buffers on a backend with little device memory: taken,
// used in all three streams with the events that their own users need, and
// dropped while that is under way. Nothing else is waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace sentencekv {

class ArenaProgram {
 public:
  // REQUIRES: `backend` outlives the program.
  ArenaProgram(Backend& backend, uint32_t seed)
      : backend_(backend), random_(seed) {}

  absl::Status Start();
  // After an error the program can go on.
  absl::Status Step();
  // Drops all buffers and waits; whether every copy to the host found what it
  // should: what the buffer's own users wrote, or zeros.
  absl::Status Finish(bool* is_right);

  // Buffers that there was no memory for.
  int64_t num_refused() const { return num_refused_; }

 private:
  static constexpr size_t kMaxBytes = 4096;

  struct Block {
    Buffer memory;
    std::byte content = {};
    DeviceEvent last_use;
  };
  struct Copied {
    const std::byte* host;
    size_t size_bytes;
    std::byte expected;
  };

  absl::Status Take();
  absl::Status Use(Block* block);
  absl::Status CopyIn(Block* block);
  absl::Status CopyOut(Block* block);
  absl::Status Submit(DeviceStream stream, Block* block, void* destination,
                      const void* source);
  // Host memory that nobody has used.
  std::byte* NextHost(size_t size_bytes);

  Backend& backend_;
  std::mt19937 random_;
  Buffer host_;
  size_t host_used_ = 0;
  std::vector<Block> blocks_;
  std::vector<Copied> copied_;
  int64_t num_refused_ = 0;
};

}  // namespace sentencekv
