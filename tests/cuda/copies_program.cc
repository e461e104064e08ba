#include "tests/cuda/copies_program.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/status_macros.h"

namespace sentencekv {

CopiesProgram::CopiesProgram(Backend& backend, uint32_t seed)
    : backend_(backend), random_(seed) {}

absl::Status CopiesProgram::Start() {
  for (int i = 0; i < 2 * kNumBlocks; ++i) {
    Block block;
    block.is_device = i < kNumBlocks;
    SKV_ASSIGN_OR_RETURN(block.memory,
                         block.is_device
                             ? backend_.Allocate(kFloats * sizeof(float))
                             : backend_.AllocateHost(kFloats * sizeof(float)));
    block.expected.assign(kFloats, 0.0f);
    SKV_RETURN_IF_ERROR(Fill(block));
    blocks_.push_back(std::move(block));
  }
  return absl::OkStatus();
}

absl::Status CopiesProgram::Fill(Block& block) {
  for (float& value : block.expected) value = static_cast<float>(random_());
  const size_t size_bytes = block.memory.size_bytes();
  if (block.is_device) {
    SKV_RETURN_IF_ERROR(backend_.CopyToDevice(
        block.memory.data(), block.expected.data(), size_bytes));
    SKV_ASSIGN_OR_RETURN(block.written,
                         backend_.Record(DeviceStream::kCompute));
  } else {
    std::memcpy(block.memory.data(), block.expected.data(), size_bytes);
  }
  return absl::OkStatus();
}

CopiesProgram::Block& CopiesProgram::Pick(bool is_device) {
  return blocks_[(is_device ? 0 : kNumBlocks) + random_() % kNumBlocks];
}

absl::Status CopiesProgram::Step(bool waits) {
  const auto stream = static_cast<DeviceStream>(random_() % kNumDeviceStreams);
  // Copies inside the device are operations; those inside the host are made by
  // the stream to it.
  const bool from_device = stream == DeviceStream::kCompute ||
                           (stream == DeviceStream::kToHost && random_() % 4);
  const bool to_device = stream != DeviceStream::kToHost;
  Block& from = Pick(from_device);
  Block& to = Pick(to_device);
  if (&from == &to) return absl::OkStatus();
  return Copy(stream, from, to, waits);
}

absl::Status CopiesProgram::Copy(DeviceStream stream, Block& from, Block& to,
                                 bool waits) {
  if (waits) {
    SKV_RETURN_IF_ERROR(backend_.Wait(stream, from.written));
    SKV_RETURN_IF_ERROR(backend_.Wait(stream, to.written));
    for (const DeviceEvent& reader : to.readers) {
      SKV_RETURN_IF_ERROR(backend_.Wait(stream, reader));
    }
  }
  SKV_RETURN_IF_ERROR(Submit(stream, from, to));
  SKV_ASSIGN_OR_RETURN(const DeviceEvent done, backend_.Record(stream));
  from.readers.push_back(done);
  to.readers.clear();
  to.written = done;
  to.expected = from.expected;
  return absl::OkStatus();
}

absl::Status CopiesProgram::Submit(DeviceStream stream, const Block& from,
                                   const Block& to) {
  if (stream == DeviceStream::kCompute) {
    const int32_t row = 0;
    return backend_.GatherRows({.x = from.memory.as<float>(),
                                .rows = &row,
                                .out = to.memory.as<float>(),
                                .num_rows = 1,
                                .width = kFloats});
  }
  // In two runs that lie together, and one that does not.
  std::vector<CopyRun> runs;
  constexpr int64_t kCuts[] = {0, 32, 64, kFloats};
  for (int i = 0; i < 3; ++i) {
    runs.push_back({to.memory.as<float>() + kCuts[i],
                    from.memory.as<float>() + kCuts[i],
                    (kCuts[i + 1] - kCuts[i]) * sizeof(float)});
  }
  if (random_() % 2 == 0) std::swap(runs[0], runs[2]);
  return backend_.Transfer(stream, runs);
}

absl::Status CopiesProgram::Finish(bool* is_right) {
  SKV_RETURN_IF_ERROR(backend_.Synchronize());
  *is_right = true;
  for (const Block& block : blocks_) {
    std::vector<float> actual(kFloats);
    const size_t size_bytes = block.memory.size_bytes();
    if (block.is_device) {
      SKV_RETURN_IF_ERROR(
          backend_.CopyToHost(actual.data(), block.memory.data(), size_bytes));
    } else {
      std::memcpy(actual.data(), block.memory.data(), size_bytes);
    }
    *is_right = *is_right && std::memcmp(actual.data(), block.expected.data(),
                                         size_bytes) == 0;
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
