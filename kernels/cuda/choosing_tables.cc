#include "kernels/cuda/choosing_tables.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "kernels/check.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

int64_t NumHeads(const ChoosingRoom& room) {
  return room.pool.num_layers * room.pool.num_kv_heads;
}

int64_t TableBytes(const ChoosingRoom& room) {
  return NumHeads(room) * HeadTableBytes(room.most_slots, room.most_sentences);
}

// Of page numbers that say where whole pages are.
int64_t WholePageBytes(const ChoosingRoom& room) {
  return room.pool.num_layers * room.most_pages *
         static_cast<int64_t>(sizeof(int32_t));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChoosingTables>> ChoosingTables::Create(
    const CudaStreams& streams, StagingRing& ring, DeviceArena& arena,
    const ChoosingRoom& room) {
  const auto int_bytes = static_cast<int64_t>(sizeof(int32_t));
  const int64_t size_bytes =
      TableBytes(room) +
      NumHeads(room) * static_cast<int64_t>(sizeof(HeadLimits)) +
      WholePageBytes(room) +
      (room.most_sentences + room.most_pages) * int_bytes;
  SKV_ASSIGN_OR_RETURN(
      DeviceMemory memory,
      DeviceMemory::Allocate(arena, static_cast<size_t>(size_bytes),
                             MemoryUse::kSentenceIndex));
  std::unique_ptr<ChoosingTables> tables(
      new ChoosingTables(ring, room, std::move(memory)));
  const Parts& parts = tables->parts_;
  SKV_RETURN_IF_CUDA_ERROR(
      cudaMemsetAsync(parts.tables, 0, static_cast<size_t>(TableBytes(room)),
                      streams.compute()));
  SKV_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(
      parts.whole_pages, 0xff, static_cast<size_t>(WholePageBytes(room)),
      streams.compute()));
  return tables;
}

ChoosingTables::ChoosingTables(StagingRing& ring, const ChoosingRoom& room,
                               DeviceMemory memory)
    : ring_(ring),
      room_(room),
      memory_(std::move(memory)),
      whole_pages_(static_cast<size_t>(room.pool.num_layers)),
      heads_(static_cast<size_t>(NumHeads(room))),
      num_slots_(heads_.size()) {
  parts_.tables = memory_.data();
  parts_.heads =
      reinterpret_cast<HeadLimits*>(parts_.tables + TableBytes(room));
  parts_.whole_pages =
      reinterpret_cast<int32_t*>(parts_.heads + NumHeads(room));
  parts_.host_pages =
      parts_.whole_pages + room.pool.num_layers * room.most_pages;
  parts_.ends = parts_.host_pages + room.most_pages;
}

std::byte* ChoosingTables::TableOf(int64_t head) const {
  return parts_.tables +
         head * HeadTableBytes(room_.most_slots, room_.most_sentences);
}

template <typename T>
absl::Status ChoosingTables::Write(const T* to, std::span<const T> values) {
  return ring_.CopyFromHost(reinterpret_cast<std::byte*>(const_cast<T*>(to)),
                            reinterpret_cast<const std::byte*>(values.data()),
                            values.size_bytes());
}

absl::Status ChoosingTables::SetBudgets(std::span<const int32_t> budgets) {
  SKV_CHECK(budgets.size() == heads_.size());
  for (size_t i = 0; i < heads_.size(); ++i) heads_[i].budget = budgets[i];
  return WriteHeads();
}

absl::Status ChoosingTables::AddSlots(std::span<const int32_t> counts,
                                      std::span<const int32_t> runs) {
  SKV_CHECK(counts.size() == heads_.size());
  std::vector<RunSlot> slots;
  auto next = runs.begin();
  for (size_t i = 0; i < heads_.size(); ++i) {
    slots.resize(static_cast<size_t>(counts[i]));
    for (RunSlot& slot : slots) slot.run = *next++;
    const auto* const table =
        reinterpret_cast<const RunSlot*>(TableOf(static_cast<int64_t>(i)));
    SKV_CHECK(num_slots_[i] + counts[i] <= room_.most_slots);
    SKV_RETURN_IF_ERROR(
        Write(table + num_slots_[i], std::span<const RunSlot>(slots)));
    num_slots_[i] += counts[i];
    heads_[i].num_slots = num_slots_[i];
  }
  SKV_CHECK(next == runs.end());
  return WriteHeads();
}

absl::Status ChoosingTables::WriteHeads() {
  return Write(parts_.heads, std::span<const HeadLimits>(heads_));
}

absl::Status ChoosingTables::AddEnds(std::span<const int32_t> ends) {
  SKV_CHECK(num_ends_ + std::ssize(ends) <= room_.most_sentences);
  SKV_RETURN_IF_ERROR(Write(parts_.ends + num_ends_, ends));
  num_ends_ += std::ssize(ends);
  return absl::OkStatus();
}

absl::Status ChoosingTables::SetPages(int64_t first_page,
                                      std::span<const int32_t> pages) {
  SKV_CHECK(first_page + std::ssize(pages) <= room_.most_pages);
  return Write(parts_.host_pages + first_page, pages);
}

absl::Status ChoosingTables::SetWholePage(int64_t layer, int32_t page,
                                          int32_t frame) {
  WholePage& named = whole_pages_[static_cast<size_t>(layer)];
  if (named.page == page && named.frame == frame) return absl::OkStatus();
  if (named.page >= 0 && named.page != page) {
    SKV_RETURN_IF_ERROR(WriteWholePage(layer, named.page, -1));
  }
  const int64_t run = frame * room_.pool.num_kv_heads;
  SKV_RETURN_IF_ERROR(WriteWholePage(layer, page, static_cast<int32_t>(run)));
  named = {page, frame};
  return absl::OkStatus();
}

absl::Status ChoosingTables::WriteWholePage(int64_t layer, int32_t page,
                                            int32_t run) {
  SKV_CHECK(page < room_.most_pages);
  return Write(parts_.whole_pages + layer * room_.most_pages + page,
               std::span<const int32_t>(&run, 1));
}

absl::StatusOr<std::vector<uint32_t>> ChoosingTables::ReadChoice(
    int64_t layer, int64_t kv_head) {
  std::vector<uint32_t> bits(static_cast<size_t>((num_ends_ + 31) / 32));
  const std::byte* const from =
      TableOf(layer * room_.pool.num_kv_heads + kv_head) +
      room_.most_slots * static_cast<int64_t>(sizeof(RunSlot));
  SKV_RETURN_IF_ERROR(
      ring_.CopyToHost(reinterpret_cast<std::byte*>(bits.data()), from,
                       bits.size() * sizeof(uint32_t)));
  return bits;
}

ChoosingRow ChoosingTables::NextRow(const ChoosingRowParams& params) {
  SKV_CHECK(params.num_sentences <= num_ends_ &&
            params.num_tokens <= room_.most_pages * kPageTokens &&
            params.most_chosen <= std::ranges::max(num_slots_));
  return {.num_tokens = static_cast<int32_t>(params.num_tokens),
          .num_sentences = static_cast<int32_t>(params.num_sentences),
          .budget = static_cast<int32_t>(params.budget),
          .num_sink = static_cast<int32_t>(params.num_sink),
          .num_recent = static_cast<int32_t>(params.num_recent),
          .num_dense = 0,
          .reuse_factor = params.reuse_factor,
          .use = ++use_,
          .num_slots = std::ranges::max(num_slots_),
          .heads = parts_.heads,
          .ends = parts_.ends,
          .host_pages = parts_.host_pages,
          .whole_pages = parts_.whole_pages,
          .tables = parts_.tables};
}

}  // namespace sentencekv
