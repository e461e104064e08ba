#include "tests/support/cuda_sim/shadow_memory.h"

#include <algorithm>

namespace cuda_sim {

void ShadowMemory::Clear() {
  // A gibibyte of shadow is kept for the next launch, no more.
  constexpr size_t kMaxPages = (size_t{1} << 30) / sizeof(Page);
  if (pages_.size() > kMaxPages) pages_.clear();
  ++generation_;
  touched_.clear();
  recent_.fill(nullptr);
}

ShadowMemory::Page* ShadowMemory::FindPage(uintptr_t number) {
  Page*& recent = recent_[number % recent_.size()];
  if (recent != nullptr && recent->number == number) return recent;
  std::unique_ptr<Page>& page = pages_[number];
  // Not value-initialised: half of the cells are rarely used.
  if (page == nullptr) page.reset(new Page);
  if (page->generation != generation_) {
    page->number = number;
    page->generation = generation_;
    page->is_fine = false;
    std::fill_n(page->cells.begin(), kPageBytes / 2, Cell());
    touched_.push_back(page.get());
  }
  return recent = page.get();
}

void ShadowMemory::MakeFine(Page* page) {
  for (size_t i = kPageBytes; i-- > 0;) page->cells[i] = page->cells[i / 2];
  page->is_fine = true;
}

Cell* ShadowMemory::Cells(uintptr_t address, size_t size, size_t* count) {
  Page* page = FindPage(address / kPageBytes);
  if (!page->is_fine && (address % 2 != 0 || size % 2 != 0)) MakeFine(page);
  const size_t offset = address % kPageBytes;
  if (page->is_fine) {
    *count = size;
    return &page->cells[offset];
  }
  *count = size / 2;
  return &page->cells[offset / 2];
}

std::vector<Interval> ShadowMemory::Intervals(Stamp Cell::*access) const {
  std::vector<const Page*> pages(touched_.begin(), touched_.end());
  std::sort(pages.begin(), pages.end(),
            [](const Page* a, const Page* b) { return a->number < b->number; });
  std::vector<Interval> intervals;
  for (const Page* page : pages) {
    const size_t cell_bytes = page->is_fine ? 1 : 2;
    for (size_t i = 0; i < kPageBytes / cell_bytes; ++i) {
      if (!(page->cells[i].*access)) continue;
      const uintptr_t begin = page->number * kPageBytes + i * cell_bytes;
      if (intervals.empty() || intervals.back().end != begin) {
        intervals.push_back({begin, begin});
      }
      intervals.back().end += cell_bytes;
    }
  }
  return intervals;
}

}  // namespace cuda_sim
