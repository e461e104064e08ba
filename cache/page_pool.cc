#include "cache/page_pool.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

struct LayoutField {
  const char* name;
  int64_t value;
};

// Every size is positive and their product fits an int64_t, so that no offset
// into the pool can overflow.
absl::Status ValidateLayout(const KvLayout& layout) {
  const LayoutField fields[] = {{"num_layers", layout.num_layers},
                                {"num_pages", layout.num_pages},
                                {"num_kv_heads", layout.num_kv_heads},
                                {"head_dim", layout.head_dim}};
  int64_t total_bytes = 2 * kPageTokens * SizeOf(layout.dtype);
  for (const LayoutField& field : fields) {
    if (field.value <= 0) {
      return absl::InvalidArgumentError(fmt::format(
          "page pool: {} must be positive, got {}", field.name, field.value));
    }
    if (__builtin_mul_overflow(total_bytes, field.value, &total_bytes)) {
      return absl::InvalidArgumentError(
          fmt::format("page pool: the size in bytes overflows at {} = {}",
                      field.name, field.value));
    }
  }
  if (layout.num_pages > INT32_MAX) {
    return absl::InvalidArgumentError(
        fmt::format("page pool: num_pages must be at most {}, got {}",
                    INT32_MAX, layout.num_pages));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<PagePool>> PagePool::Create(
    Backend& backend, const KvLayout& layout) {
  if (absl::Status status = ValidateLayout(layout); !status.ok()) {
    return status;
  }
  absl::StatusOr<Buffer> memory =
      backend.AllocateHost(static_cast<size_t>(layout.total_bytes()));
  if (!memory.ok()) {
    return absl::Status(
        memory.status().code(),
        fmt::format("page pool: no memory for {} pages, {} bytes: {}",
                    layout.num_pages, layout.total_bytes(),
                    std::string(memory.status().message())));
  }
  return std::unique_ptr<PagePool>(
      new PagePool(backend, layout, *std::move(memory)));
}

PagePool::PagePool(Backend& backend, const KvLayout& layout, Buffer memory)
    : backend_(backend),
      layout_(layout),
      memory_(std::move(memory)),
      preparer_(backend, layout, memory_.as<std::byte>()),
      references_(layout.num_pages, 0),
      is_kept_(layout.num_pages, false),
      idle_place_(layout.num_pages) {
  // Page 0 ends on top of the stack.
  unused_.reserve(layout.num_pages);
  for (int64_t page = layout.num_pages - 1; page >= 0; --page) {
    unused_.push_back(static_cast<int32_t>(page));
  }
  PublishCounts();
}

absl::Status PagePool::CheckFree(int64_t count) const {
  SKV_CHECK(count >= 0);
  if (count <= num_free()) return absl::OkStatus();
  return absl::ResourceExhaustedError(fmt::format(
      "page pool: {} pages are wanted, {} are free", count, num_free()));
}

absl::Status PagePool::Take(int64_t count, std::vector<int32_t>* pages) {
  SKV_RETURN_IF_ERROR(CheckFree(count));
  TakeFromStack(count, pages);
  return absl::OkStatus();
}

absl::Status PagePool::Promise(int64_t count) {
  SKV_RETURN_IF_ERROR(CheckFree(count));
  promised_ += count;
  PublishCounts();
  return absl::OkStatus();
}

void PagePool::TakePromised(int64_t count, std::vector<int32_t>* pages) {
  SKV_CHECK(count >= 0 && count <= promised_);
  promised_ -= count;
  TakeFromStack(count, pages);
}

void PagePool::ReleasePromised(int64_t count) {
  SKV_CHECK(count >= 0 && count <= promised_);
  promised_ -= count;
  PublishCounts();
}

void PagePool::TakeFromStack(int64_t count, std::vector<int32_t>* pages) {
  const int32_t highest_before = highest_taken_;
  for (int64_t i = 0; i < count; ++i) {
    if (unused_.empty()) {
      DropOldestIdle();
      ++num_evictions_;
    }
    const int32_t page = unused_.back();
    unused_.pop_back();
    references_[page] = 1;
    highest_taken_ = std::max(highest_taken_, page);
    pages->push_back(page);
  }
  if (highest_taken_ > highest_before) preparer_.Expect(highest_taken_ + 1);
  PublishCounts();
}

void PagePool::DropOldestIdle() {
  const int32_t page = idle_.front();
  idle_.pop_front();
  is_kept_[page] = false;
  unused_.push_back(page);
  if (on_dropped_) on_dropped_(page);
}

int64_t PagePool::DropIdle() {
  const auto count = static_cast<int64_t>(idle_.size());
  while (!idle_.empty()) DropOldestIdle();
  PublishCounts();
  return count;
}

void PagePool::Share(int32_t page) {
  SKV_CHECK(page >= 0 && page < layout_.num_pages);
  if (references_[page] == 0) {
    SKV_CHECK(is_kept_[page] && num_free() > 0);
    idle_.erase(idle_place_[page]);
  }
  ++references_[page];
  PublishCounts();
}

void PagePool::Release(std::span<const int32_t> pages) {
  for (size_t i = pages.size(); i-- > 0;) {
    const int32_t page = pages[i];
    SKV_CHECK(page >= 0 && page < layout_.num_pages);
    SKV_CHECK(references_[page] > 0);
    if (--references_[page] > 0) continue;
    if (is_kept_[page]) {
      idle_place_[page] = idle_.insert(idle_.end(), page);
    } else {
      unused_.push_back(page);
    }
  }
  PublishCounts();
}

void PagePool::Keep(int32_t page) {
  SKV_CHECK(page >= 0 && page < layout_.num_pages);
  SKV_CHECK(references_[page] > 0);
  is_kept_[page] = true;
}

absl::Status PagePool::Copy(int32_t source, int32_t destination) {
  CopyPagesParams params;
  params.layout = layout_;
  params.pool = memory_.as<std::byte>();
  params.source = &source;
  params.destination = &destination;
  params.num_pages = 1;
  return backend_.CopyPages(params);
}

KvLayerView PagePool::layer(int64_t layer) const {
  SKV_CHECK(layer >= 0 && layer < layout_.num_layers);
  return {memory_.as<std::byte>() + layer * layout_.layer_bytes(), layout_};
}

PagePoolStats PagePool::stats() const {
  PagePoolStats stats;
  stats.total = layout_.num_pages;
  stats.free = published_free_.load(std::memory_order_relaxed);
  stats.cached = published_cached_.load(std::memory_order_relaxed);
  stats.used = stats.total - stats.free;
  return stats;
}

void PagePool::PublishCounts() {
  published_free_.store(num_free(), std::memory_order_relaxed);
  // What is promised is taken from the unused pages first.
  published_cached_.store(
      std::min(num_free(), static_cast<int64_t>(idle_.size())),
      std::memory_order_relaxed);
}

void PagePool::CheckInvariantsForTest() const {
  std::vector<bool> is_free(references_.size(), false);
  const auto mark = [&](int32_t page, bool kept) {
    SKV_CHECK(page >= 0 && page < layout_.num_pages);
    SKV_CHECK(!is_free[page] && is_kept_[page] == kept);
    is_free[page] = true;
  };
  for (const int32_t page : unused_) mark(page, /*kept=*/false);
  for (const int32_t page : idle_) mark(page, /*kept=*/true);
  int64_t referenced = 0;
  for (size_t page = 0; page < references_.size(); ++page) {
    SKV_CHECK(references_[page] >= 0);
    SKV_CHECK(is_free[page] == (references_[page] == 0));
    if (references_[page] > 0) ++referenced;
  }
  SKV_CHECK(promised_ >= 0 && num_free() >= 0);
  SKV_CHECK(num_free() + promised_ + referenced == layout_.num_pages);
  SKV_CHECK(stats().free == num_free() && stats().cached <= num_free());
}

}  // namespace sentencekv
