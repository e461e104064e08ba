#include "cache/device_kv_memory.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/cache/device_texts.h"
#include "tests/support/fault_backend.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

TEST(DeviceKvMemory, WhatWasSavedComesBackAfterEviction) {
  Device device(/*num_frames=*/3, /*max_tokens=*/48);
  Text* const a = device.Begin();
  Text* const b = device.Begin();
  device.Append(a, 48);
  device.Append(b, 40);
  device.Append(b, 3);
  for (int i = 0; i < 3; ++i) {
    device.ExpectRight(a);
    device.ExpectRight(b);
  }
  EXPECT_GT(device.transfers().evictions, 0);
}

TEST(DeviceKvMemory, ThePoolGetsWhatIsSaved) {
  Device device(8, 48);
  Text* const text = device.Begin();
  device.Append(text, 20);
  ASSERT_TRUE(device.backend().Synchronize().ok());
  for (int64_t layer = 0; layer < kLayout.num_layers; ++layer) {
    for (const int64_t position : {0, 15, 16, 19}) {
      const int32_t page =
          text->cached.pages[static_cast<size_t>(position / kPageTokens)];
      const auto* words = reinterpret_cast<const uint32_t*>(
          device.pool().layer(layer).head(page, /*kv_head=*/1));
      EXPECT_EQ(words[position % kPageTokens * kTokenWords],
                WordOf(text->salts[static_cast<size_t>(position)], layer, 1));
    }
  }
}

// What is on the device is not copied to it, nor is what nobody has written.
TEST(DeviceKvMemory, CopiesWhatIsNotThere) {
  Device device(8, 48);
  Text* const text = device.Begin();
  device.Append(text, 40);
  KvTransfers transfers = device.transfers();
  EXPECT_EQ(transfers.frames_total, 8);
  EXPECT_EQ(transfers.frames_used, 6);
  EXPECT_EQ(transfers.misses, 0);
  EXPECT_EQ(transfers.bytes_to_device, 0);
  EXPECT_EQ(transfers.bytes_to_host, 6 * kLayout.page_bytes());
  device.ExpectRight(text);
  transfers = device.transfers();
  EXPECT_EQ(transfers.hits, 6);
  EXPECT_EQ(transfers.bytes_to_device, 0);
  device.EvictAll();
  EXPECT_EQ(device.transfers().frames_used, 0);
  device.ExpectRight(text);
  transfers = device.transfers();
  EXPECT_EQ(transfers.misses, 6);
  EXPECT_EQ(transfers.bytes_to_device, 6 * kLayout.page_bytes());
  // One token more: only its page is saved.
  const int64_t saved = transfers.bytes_to_host;
  device.Append(text, 1);
  EXPECT_EQ(device.transfers().bytes_to_host, saved + 2 * kLayout.page_bytes());
}

TEST(DeviceKvMemory, ChosenRunsHoldOneHead) {
  Device device(8, 48);
  Text* const text = device.Begin();
  device.Append(text, 48);
  device.EvictAll();
  const ChosenPages chosen = Choose({0, 2}, {0xffff, 0x8001});
  for (int64_t head = 0; head < kLayout.num_kv_heads; ++head) {
    device.ExpectChosenRight(head, text, chosen);
  }
  KvTransfers transfers = device.transfers();
  EXPECT_EQ(transfers.misses, 0);
  EXPECT_EQ(transfers.chosen_misses, 4);
  EXPECT_EQ(transfers.bytes_to_device, 4 * kLayout.head_bytes());
  EXPECT_EQ(transfers.frames_used, 2);  // lent, and shared by the heads
  device.ExpectChosenRight(0, text, chosen);
  EXPECT_EQ(device.transfers().chosen_hits, 2);
  EXPECT_EQ(device.transfers().bytes_to_device, transfers.bytes_to_device);
}

// The runs of a head make room for each other: twice what it chose at once.
TEST(DeviceKvMemory, ChosenRunsMakeRoomForEachOther) {
  Device device(40, 80);
  Text* const text = device.Begin();
  device.Append(text, 80);
  device.EvictAll();
  for (const int32_t page : {0, 1, 2, 0, 3, 4, 2, 1}) {
    device.ExpectChosenRight(0, text, Choose({page}, {0x00f0}));
  }
  EXPECT_EQ(device.transfers().frames_used, 2);
  EXPECT_EQ(device.transfers().chosen_hits, 0);
  device.ExpectChosenRight(0, text, Choose({1, 2}, {1, 1}));
  EXPECT_EQ(device.transfers().chosen_hits, 2);
}

// Pages that are there as a whole are not brought again.
TEST(DeviceKvMemory, ChosenPagesAreReadFromWhatIsThere) {
  Device device(8, 48);
  Text* const text = device.Begin();
  device.Append(text, 48);
  device.ExpectChosenRight(0, text, Choose({0, 1, 2}, {1, 2, 4}));
  EXPECT_EQ(device.transfers().hits, 3);
  EXPECT_EQ(device.transfers().bytes_to_device, 0);
}

// Where no frame can be lent, what was chosen is read from whole pages.
TEST(DeviceKvMemory, ChosenPagesAreReadFromWholePagesToo) {
  Device device(/*num_frames=*/3, /*max_tokens=*/48);
  Text* const text = device.Begin();
  device.Append(text, 48);
  device.EvictAll();
  device.ExpectChosenRight(0, text, Choose({0, 1, 2}, {1, 2, 4}));
  device.ExpectChosenRight(1, text, Choose({0, 1, 2}, {1, 2, 4}));
  EXPECT_EQ(device.transfers().misses, 3);
  EXPECT_EQ(device.transfers().hits, 3);
  EXPECT_EQ(device.transfers().chosen_misses, 0);
}

// Copies that an operation will wait for, if it reads what they bring.
TEST(DeviceKvMemory, PrefetchedRunsAreOnTheirWay) {
  Device device(8, 48);
  KvMemory& memory = device.memory();
  Text* const text = device.Begin();
  Text* const other = device.Begin();
  device.Append(text, 48);
  device.EvictAll();
  device.Append(other, 16);
  device.ExpectChosenRight(0, text, Choose({0}, {1}));
  const ChosenPages next = Choose({1}, {0xffff});
  ASSERT_TRUE(memory.Prefetch(1, 0, text->cached, next).ok());
  KvTransfers transfers = device.transfers();
  EXPECT_EQ(transfers.chosen_misses, 2);
  device.ExpectRight(other);
  memory.BeginUse();
  std::vector<int32_t> numbers;
  ASSERT_TRUE(memory.BringChosen(1, 0, text->cached, next, &numbers).ok());
  const auto* words = reinterpret_cast<const uint32_t*>(
      memory.chosen_view(1).head(numbers[0], 0));
  const uint32_t right = WordOf(text->salts[kPageTokens], 1, 0);
  EXPECT_NE(words[0], right);
  ASSERT_TRUE(memory.Ready().ok());
  EXPECT_EQ(words[0], right);
  EXPECT_EQ(device.transfers().chosen_misses, 2);
  EXPECT_EQ(device.transfers().chosen_hits, 1);
  // What is there as a whole is left alone.
  device.ExpectRight(text);
  transfers = device.transfers();
  ASSERT_TRUE(memory.Prefetch(1, 0, text->cached, Choose({2}, {1})).ok());
  EXPECT_EQ(device.transfers().bytes_to_device, transfers.bytes_to_device);
}

TEST(DeviceKvMemory, APageThatHasMoreIsFetchedAgain) {
  Device device(8, 48);
  Text* const text = device.Begin();
  device.Append(text, 20);
  device.EvictAll();
  const ChosenPages few = Choose({1}, {0x000f});
  const ChosenPages more = Choose({1}, {0x001f});
  device.ExpectChosenRight(0, text, few);
  device.Append(text, 1);
  device.EvictAll();
  device.ExpectChosenRight(0, text, few);  // still there
  EXPECT_EQ(device.transfers().chosen_hits, 1);
  device.ExpectChosenRight(0, text, more);
  EXPECT_EQ(device.transfers().chosen_misses, 2);
  device.ExpectChosenRight(0, text, more);
  EXPECT_EQ(device.transfers().chosen_hits, 2);
  // The same of whole pages.
  device.ExpectRight(text);
  device.Append(text, 2);
  device.EvictAll();
  device.ExpectRight(text);
}

TEST(DeviceKvMemory, SaysWhenAllIsInUse) {
  Device device(/*num_frames=*/3, /*max_tokens=*/48);
  Text* const a = device.Begin();
  Text* const b = device.Begin();
  device.Append(a, 32);
  device.Append(b, 32);
  KvMemory& memory = device.memory();
  memory.BeginUse();
  ASSERT_TRUE(memory.Bring(0, a->cached, 0, 32).ok());
  const absl::Status status = memory.Bring(0, b->cached, 0, 32).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("3 frames"));
  std::vector<int32_t> numbers;
  EXPECT_EQ(
      memory.BringChosen(0, 0, b->cached, Choose({0, 1}, {1, 1}), &numbers)
          .code(),
      absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(memory.BringToWrite(0, b->cached, 0, 32).status().code(),
            absl::StatusCode::kResourceExhausted);
  memory.BeginUse();
  EXPECT_TRUE(memory.Bring(0, b->cached, 0, 32).ok());
  device.ExpectRight(a);
  device.ExpectRight(b);
}

TEST(DeviceKvMemory, CopiesAPageThatIsOnItsWay) {
  Device device(8, 48);
  Text* const text = device.Begin();
  device.Append(text, 24);
  Text* const fork = device.Fork(*text, 21).value();
  device.Append(fork, 10);
  device.Append(text, 10);
  device.ExpectRight(fork);
  device.ExpectRight(text);
  device.EvictAll();
  device.ExpectRight(fork);
  device.ExpectRight(text);
}

// A page of the pool that copies still read has a new owner.
TEST(DeviceKvMemory, APageIsNotWrittenWhileItIsRead) {
  for (const bool by_a_copy : {false, true}) {
    Device device(8, 48);
    Text* const text = device.Begin();
    Text* const other = device.Begin();
    device.Append(text, 48);
    device.Append(other, 8);
    device.EvictAll();
    device.ExpectChosenRight(0, text, Choose({0}, {1}));
    const ChosenPages next = Choose({1}, {0xffff});
    ASSERT_TRUE(device.memory().Prefetch(1, 0, text->cached, next).ok());
    const int32_t old_page = text->cached.pages[1];
    ASSERT_TRUE(device.MovePage(text, 1).ok());
    Text* owner = nullptr;
    if (by_a_copy) {
      owner = device.Fork(*other, 8).value();
    } else {
      owner = device.Begin();
      device.Append(owner, 8);
    }
    ASSERT_EQ(owner->cached.pages[0], old_page);
    Backend& backend = device.backend();
    ASSERT_TRUE(backend
                    .Wait(DeviceStream::kCompute,
                          backend.Record(DeviceStream::kToHost).value())
                    .ok());
    device.ExpectChosenRight(0, text, next);
  }
}

TEST(DeviceKvMemory, ReleaseGivesFramesBack) {
  Device device(8, 48);
  Text* const text = device.Begin();
  device.Append(text, 48);
  device.EvictAll();
  device.ExpectChosenRight(0, text, Choose({0, 1}, {1, 1}));
  EXPECT_EQ(device.Read(0, {&text, 1}), absl::OkStatus());
  EXPECT_EQ(device.transfers().frames_used, 5);
  device.memory().Release(text->cached);
  EXPECT_EQ(device.transfers().frames_used, 0);
  device.memory().Release(text->cached);  // has nothing
  device.ExpectRight(text);               // comes from the pool again
}

TEST(DeviceKvMemory, RefusesTooLittleMemory) {
  auto backend =
      MakeCpuBackend({.num_threads = 1, .own_memory = CopyTiming::kLatest})
          .value();
  auto pool = *PagePool::Create(*backend, kLayout);
  const int64_t needed = 4 * kLayout.page_bytes();
  const auto create = [&](int64_t device_bytes) {
    return KvMemory::Create(
        *pool, {.device_bytes = device_bytes, .max_sequence_tokens = 49});
  };
  for (const int64_t device_bytes : {int64_t{0}, int64_t{17}, needed - 1}) {
    const absl::Status status = create(device_bytes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("needs " + std::to_string(needed) + " bytes"));
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("got " + std::to_string(device_bytes)));
  }
  EXPECT_EQ((*create(needed))->transfers().frames_total, 4);
  EXPECT_EQ((*create(2 * needed - 1))->transfers().frames_total, 7);
}

TEST(DeviceKvMemory, SaysWhenTheDeviceHasNoMemory) {
  FaultBackend backend(
      MakeCpuBackend({.num_threads = 1, .own_memory = CopyTiming::kLatest})
          .value());
  auto pool = *PagePool::Create(backend, kLayout);
  backend.FailCall(1, absl::ResourceExhaustedError("ordered"));
  EXPECT_EQ(KvMemory::Create(*pool, {.device_bytes = 4 * kLayout.page_bytes(),
                                     .max_sequence_tokens = 16})
                .status(),
            absl::ResourceExhaustedError("ordered"));
}

TEST(DeviceKvMemory, OneMemoryNeedsNoOther) {
  auto backend = MakeCpuBackend({.num_threads = 1}).value();
  auto pool = *PagePool::Create(*backend, kLayout);
  const auto memory = *KvMemory::Create(*pool, {.max_sequence_tokens = 1000});
  EXPECT_EQ(memory->view(1).base, pool->layer(1).base);
  EXPECT_EQ(memory->transfers().frames_total, 0);
}

}  // namespace
}  // namespace sentencekv
