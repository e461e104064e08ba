// Random programs of copies in the three streams of a backend, ordered by as
// many events as they need.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace sentencekv {

// A block of memory of either kind, and what will be in it.
class CopiesProgram {
 public:
  // REQUIRES: `backend` outlives the program.
  CopiesProgram(Backend& backend, uint32_t seed);

  absl::Status Start();
  // Submits a copy between two blocks, in a stream that can make it. Without
  // `waits` nothing orders it after those of other streams.
  absl::Status Step(bool waits);
  // Waits for everything; whether all blocks hold what they should.
  absl::Status Finish(bool* is_right);

 private:
  static constexpr int64_t kFloats = 96;
  static constexpr int kNumBlocks = 4;  // of each memory

  struct Block {
    bool is_device = false;
    Buffer memory;
    std::vector<float> expected;
    DeviceEvent written;               // number 0: by nobody
    std::vector<DeviceEvent> readers;  // since then
  };

  absl::Status Fill(Block& block);
  absl::Status Copy(DeviceStream stream, Block& from, Block& to, bool waits);
  absl::Status Submit(DeviceStream stream, const Block& from, const Block& to);
  Block& Pick(bool is_device);

  Backend& backend_;
  std::mt19937 random_;
  std::vector<Block> blocks_;
};

}  // namespace sentencekv
