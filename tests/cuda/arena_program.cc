#include "tests/cuda/arena_program.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {

absl::Status ArenaProgram::Start() {
  SKV_ASSIGN_OR_RETURN(host_, backend_.AllocateHost(size_t{2} << 20));
  return absl::OkStatus();
}

absl::Status ArenaProgram::Step() {
  const uint32_t choice = random_() % 8;
  if (blocks_.empty() || choice < 2) return Take();
  const size_t index = random_() % blocks_.size();
  absl::Status status;
  if (choice < 6) {
    status = Use(&blocks_[index]);
    if (status.ok()) return status;
    // Nobody knows what has been submitted.
    SKV_RETURN_IF_ERROR(backend_.Synchronize());
  }
  std::swap(blocks_[index], blocks_.back());
  blocks_.pop_back();
  return status;
}

absl::Status ArenaProgram::Take() {
  const size_t size_bytes = 1 + random_() % kMaxBytes;
  absl::StatusOr<Buffer> memory = backend_.Allocate(size_bytes);
  if (absl::IsResourceExhausted(memory.status())) {
    ++num_refused_;
    return absl::OkStatus();
  }
  SKV_RETURN_IF_ERROR(memory.status());
  blocks_.push_back({.memory = *std::move(memory)});
  return absl::OkStatus();
}

absl::Status ArenaProgram::Use(Block* block) {
  switch (random_() % 3) {
    case 0:
      return CopyIn(block);
    case 1:
      return CopyOut(block);
    default:
      break;
  }
  const auto content = static_cast<std::byte>(random_());
  const std::vector<std::byte> bytes(block->memory.size_bytes(), content);
  SKV_RETURN_IF_ERROR(backend_.Wait(DeviceStream::kCompute, block->last_use));
  SKV_RETURN_IF_ERROR(
      backend_.CopyToDevice(block->memory.data(), bytes.data(), bytes.size()));
  block->content = content;
  SKV_ASSIGN_OR_RETURN(block->last_use,
                       backend_.Record(DeviceStream::kCompute));
  return absl::OkStatus();
}

absl::Status ArenaProgram::CopyIn(Block* block) {
  const size_t size_bytes = block->memory.size_bytes();
  std::byte* const source = NextHost(size_bytes);
  const auto content = static_cast<std::byte>(random_());
  std::fill_n(source, size_bytes, content);
  SKV_RETURN_IF_ERROR(
      Submit(DeviceStream::kToDevice, block, block->memory.data(), source));
  block->content = content;
  return absl::OkStatus();
}

absl::Status ArenaProgram::CopyOut(Block* block) {
  const size_t size_bytes = block->memory.size_bytes();
  std::byte* const host = NextHost(size_bytes);
  SKV_RETURN_IF_ERROR(
      Submit(DeviceStream::kToHost, block, host, block->memory.data()));
  copied_.push_back({host, size_bytes, block->content});
  return absl::OkStatus();
}

absl::Status ArenaProgram::Submit(DeviceStream stream, Block* block,
                                  void* destination, const void* source) {
  const CopyRun run = {destination, source, block->memory.size_bytes()};
  SKV_RETURN_IF_ERROR(backend_.Wait(stream, block->last_use));
  SKV_RETURN_IF_ERROR(backend_.Transfer(stream, {&run, 1}));
  SKV_ASSIGN_OR_RETURN(block->last_use, backend_.Record(stream));
  return absl::OkStatus();
}

std::byte* ArenaProgram::NextHost(size_t size_bytes) {
  std::byte* const host = host_.as<std::byte>() + host_used_;
  host_used_ += size_bytes;
  SKV_CHECK(host_used_ <= host_.size_bytes());
  return host;
}

absl::Status ArenaProgram::Finish(bool* is_right) {
  blocks_.clear();
  SKV_RETURN_IF_ERROR(backend_.Synchronize());
  *is_right = std::ranges::all_of(copied_, [](const Copied& copied) {
    return std::all_of(copied.host, copied.host + copied.size_bytes,
                       [&](std::byte b) { return b == copied.expected; });
  });
  return absl::OkStatus();
}

}  // namespace sentencekv
