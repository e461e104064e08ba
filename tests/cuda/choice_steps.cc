#include "tests/cuda/choice_steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/kv_layout.h"

namespace sentencekv {
namespace {

int64_t PagesFor(int64_t num_tokens) {
  return (num_tokens + kPageTokens - 1) / kPageTokens;
}

bool SameRun(const MissingRun& a, const MissingRun& b) {
  return a.host_page == b.host_page && a.kv_head == b.kv_head &&
         a.run == b.run && a.tokens == b.tokens;
}

}  // namespace

bool ChoiceLists::operator==(const ChoiceLists& other) const {
  return pages == other.pages && runs == other.runs && masks == other.masks &&
         fetched == other.fetched && sentences == other.sentences &&
         std::ranges::equal(missing, other.missing, SameRun);
}

ChoiceRow ChoiceRow::OfHead(int64_t head) const {
  ChoiceRow row = *this;
  if (heads.empty()) return row;
  const HeadLimits& limits_of_head = heads[static_cast<size_t>(head)];
  row.limits.budget = limits_of_head.budget;
  row.num_slots = limits_of_head.num_slots;
  return row;
}

ChoiceLists HostChoice::Choose(const ChoiceRow& row,
                               std::vector<float> scores) {
  ChoiceLists lists;
  ChosenPages chosen;
  const bool is_whole =
      row.ends.empty() || row.num_tokens <= row.limits.num_dense;
  if (is_whole) {
    last_.clear();
    selector_.ListPages(row.limits, {{}, row.num_tokens}, {}, &chosen);
  } else {
    lists.sentences = ChooseSentences(row, &scores);
    selector_.ListPages(row.limits, {row.ends, row.num_tokens}, lists.sentences,
                        &chosen);
  }
  std::ranges::sort(lists.sentences);
  counts_.sentences += std::ssize(lists.sentences);
  lists.pages = chosen.pages;
  lists.masks = chosen.masks;
  counts_.tokens += chosen.num_tokens;
  Place(row, chosen, &lists);
  return lists;
}

std::vector<int32_t> HostChoice::ChooseSentences(const ChoiceRow& row,
                                                 std::vector<float>* scores) {
  for (size_t i = 0; i < last_.size() && i < scores->size(); ++i) {
    if (last_[i]) (*scores)[i] *= row.reuse_factor;
  }
  const auto sentences = selector_.ChooseSentences(
      row.limits, {row.ends, row.num_tokens}, *scores);
  const std::vector<bool> before = last_;
  last_.assign(scores->size(), false);
  for (const int32_t i : sentences) {
    const auto sentence = static_cast<size_t>(i);
    last_[sentence] = true;
    if (sentence < before.size() && before[sentence]) ++counts_.repeated;
  }
  return {sentences.begin(), sentences.end()};
}

// All pages are looked for before any is placed. Looking for no token of a page
// keeps an old copy of it, which is filled up in its place.
void HostChoice::Place(const ChoiceRow& row, const ChosenPages& chosen,
                       ChoiceLists* lists) {
  const auto whole_run = [&](size_t i) {
    const auto page = static_cast<size_t>(chosen.pages[i]);
    return page < row.whole_pages.size() ? row.whole_pages[page] : -1;
  };
  std::vector<bool> is_hit(chosen.pages.size());
  std::vector<uint16_t> before(chosen.pages.size());
  for (size_t i = 0; i < chosen.pages.size(); ++i) {
    if (whole_run(i) >= 0) continue;
    const int32_t page = chosen.pages[i];
    is_hit[i] = runs_.Find(page, chosen.masks[i], row.use).has_value();
    const auto copy = runs_.Find(page, 0, row.use);
    if (copy.has_value()) before[i] = slot_tokens_[*copy];
  }
  for (size_t i = 0; i < chosen.pages.size(); ++i) {
    lists->runs.push_back(0);
    lists->fetched.push_back(0);
    if (whole_run(i) >= 0) {
      lists->runs[i] = whole_run(i) + kv_head_;
      ++counts_.whole_pages;
      continue;
    }
    const int32_t page = chosen.pages[i];
    if (is_hit[i]) {
      lists->runs[i] = first_run_ + *runs_.Find(page, 0, row.use);
      ++counts_.hits;
      continue;
    }
    ++counts_.misses;
    const auto tokens = static_cast<uint16_t>(before[i] | chosen.masks[i]);
    const auto slot = runs_.Place(page, tokens, row.use, row.num_slots);
    if (!slot.has_value()) {
      lists->masks[i] = 0;
      counts_.tokens -= std::popcount(chosen.masks[i]);
      counts_.flags |= kNoSlotLeft;
      continue;
    }
    slot_tokens_.resize(static_cast<size_t>(runs_.num_used()));
    slot_tokens_[static_cast<size_t>(*slot)] = tokens;
    lists->runs[i] = first_run_ + *slot;
    lists->fetched[i] = static_cast<uint16_t>(tokens & ~before[i]);
    lists->missing.push_back({row.host_pages[static_cast<size_t>(page)],
                              kv_head_, lists->runs[i], lists->fetched[i]});
    counts_.bytes += std::popcount(lists->fetched[i]) * kChoiceTokenBytes;
  }
  counts_.evictions = runs_.num_evictions();
}

DeviceChoices::DeviceChoices(cuda_sim::SimDevice& device,
                             const ChoiceRoom& room, int64_t num_rows)
    : device_(device),
      room_(room),
      num_rows_(num_rows),
      rows_(static_cast<size_t>(num_rows)),
      num_sentences_(static_cast<size_t>(num_rows)) {
  const auto lists = static_cast<size_t>(num_choices() * room.most_chosen);
  const int64_t table_bytes =
      HeadTableBytes(room.most_slots, room.most_sentences);
  for (int64_t row = 0; row < num_rows; ++row) {
    std::vector<std::byte> tables(
        static_cast<size_t>(room.num_layers * room.num_kv_heads * table_bytes));
    for (int64_t layer = 0; layer < room.num_layers; ++layer) {
      for (int64_t g = 0; g < room.num_kv_heads; ++g) {
        for (int32_t slot = 0; slot < room.most_slots; ++slot) {
          const RunSlot empty = {.run = FirstRun(row, layer, g) + slot};
          std::memcpy(tables.data() +
                          (layer * room.num_kv_heads + g) * table_bytes +
                          slot * sizeof(RunSlot),
                      &empty, sizeof(empty));
        }
      }
    }
    ChoosingRow& there = rows_[static_cast<size_t>(row)];
    there.tables = device.Upload(tables);
    there.ends = device.Device<int32_t>(room.most_sentences);
    there.host_pages = device.Device<int32_t>(room.most_pages);
    there.whole_pages =
        device.Device<int32_t>(room.num_layers * room.most_pages);
  }
  scores_ = device.Device<float>(num_choices() * room.most_sentences);
  launch_ = {.rows = device.Device<ChoosingRow>(num_rows),
             .num_rows = num_rows,
             .num_kv_heads = room.num_kv_heads,
             .scores = scores_,
             .most_sentences = room.most_sentences,
             .most_pages = room.most_pages,
             .most_chosen = room.most_chosen,
             .most_slots = room.most_slots,
             .token_bytes = kChoiceTokenBytes,
             .num_pages = device.Device<int32_t>(num_choices()),
             .pages = device.Device<int32_t>(lists),
             .runs = device.Device<int32_t>(lists),
             .masks = device.Device<uint16_t>(lists),
             .fetched = device.Device<uint16_t>(lists),
             .num_missing = device.Device<int32_t>(num_choices()),
             .missing = device.Device<MissingRun>(lists),
             .counts = device.Upload(std::vector<ChoiceCounts>(num_choices()))};
}

int32_t DeviceChoices::FirstRun(int64_t row, int64_t layer,
                                int64_t kv_head) const {
  return static_cast<int32_t>(
      ((row * room_.num_layers + layer) * room_.num_kv_heads + kv_head) *
      room_.most_slots);
}

std::byte* DeviceChoices::TableOf(int64_t row, int64_t layer,
                                  int64_t kv_head) const {
  return rows_[static_cast<size_t>(row)].tables +
         (layer * room_.num_kv_heads + kv_head) *
             HeadTableBytes(room_.most_slots, room_.most_sentences);
}

template <typename T>
void DeviceChoices::Overwrite(T* to, const std::vector<T>& values) {
  if (values.empty()) return;
  T* const pinned = device_.Pinned<T>(values.size());
  std::copy(values.begin(), values.end(), pinned);
  EXPECT_EQ(cudaMemcpyAsync(to, pinned, values.size() * sizeof(T),
                            cudaMemcpyHostToDevice, device_.stream()),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(device_.stream()), cudaSuccess);
  cudaFreeHost(pinned);
}

void DeviceChoices::SetRows(const std::vector<ChoiceRow>& rows) {
  std::vector<ChoosingRow> there = rows_;
  for (size_t i = 0; i < rows.size(); ++i) {
    const ChoiceRow& row = rows[i];
    num_sentences_[i] = static_cast<int32_t>(row.ends.size());
    there[i].num_tokens = static_cast<int32_t>(row.num_tokens);
    there[i].num_sentences = num_sentences_[i];
    there[i].budget = static_cast<int32_t>(row.limits.budget);
    there[i].num_sink = static_cast<int32_t>(row.limits.num_sink);
    there[i].num_recent = static_cast<int32_t>(row.limits.num_recent);
    there[i].num_dense = static_cast<int32_t>(row.limits.num_dense);
    there[i].reuse_factor = row.reuse_factor;
    there[i].use = row.use;
    there[i].num_slots = row.num_slots;
    there[i].heads = row.heads.empty() ? nullptr : device_.Upload(row.heads);
    if (row.num_tokens > room_.most_pages * kPageTokens ||
        std::ssize(row.ends) > room_.most_sentences) {
      continue;  // the kernel must not look at them
    }
    Overwrite(const_cast<int32_t*>(there[i].ends), row.ends);
    Overwrite(const_cast<int32_t*>(there[i].host_pages), row.host_pages);
    std::vector<int32_t> whole(
        static_cast<size_t>(room_.num_layers * room_.most_pages), -1);
    for (int64_t layer = 0; layer < room_.num_layers; ++layer) {
      std::ranges::copy(row.whole_pages,
                        whole.begin() + layer * room_.most_pages);
    }
    Overwrite(const_cast<int32_t*>(there[i].whole_pages), whole);
    if (row.whole_pages.empty()) there[i].whole_pages = nullptr;
  }
  Overwrite(const_cast<ChoosingRow*>(launch_.rows), there);
}

void DeviceChoices::SetScores(const std::vector<std::vector<float>>& scores) {
  std::vector<float> all;
  for (const std::vector<float>& of_choice : scores) {
    all.insert(all.end(), of_choice.begin(), of_choice.end());
    all.resize(all.size() + room_.most_sentences - of_choice.size(), NAN);
  }
  Overwrite(scores_, all);
}

cudaError_t DeviceChoices::Choose(int64_t layer) {
  launch_.layer = layer;
  return LaunchChoose(launch_, device_.stream());
}

std::vector<ChoiceLists> DeviceChoices::Lists(int64_t layer) {
  const int64_t most = room_.most_chosen;
  const auto num_pages = device_.Download(launch_.num_pages, num_choices());
  const auto num_missing = device_.Download(launch_.num_missing, num_choices());
  const auto pages = device_.Download(launch_.pages, num_choices() * most);
  const auto runs = device_.Download(launch_.runs, num_choices() * most);
  const auto masks = device_.Download(launch_.masks, num_choices() * most);
  const auto fetched = device_.Download(launch_.fetched, num_choices() * most);
  const auto missing = device_.Download(launch_.missing, num_choices() * most);
  if (missing.empty()) return {};  // something was found
  const auto list_of = [&](const auto& of_all, int64_t choice, int64_t count) {
    const auto begin = of_all.begin() + choice * most;
    return std::vector(begin, begin + count);
  };
  std::vector<ChoiceLists> all;
  for (int64_t i = 0; i < num_choices(); ++i) {
    all.push_back({.pages = list_of(pages, i, num_pages[i]),
                   .runs = list_of(runs, i, num_pages[i]),
                   .masks = list_of(masks, i, num_pages[i]),
                   .fetched = list_of(fetched, i, num_pages[i]),
                   .missing = list_of(missing, i, num_missing[i]),
                   .sentences = KeptSentences(i, layer)});
  }
  return all;
}

std::vector<int32_t> DeviceChoices::KeptSentences(int64_t choice,
                                                  int64_t layer) {
  const int64_t row = choice / room_.num_kv_heads;
  const auto words =
      device_.Download(reinterpret_cast<const uint32_t*>(
                           TableOf(row, layer, choice % room_.num_kv_heads) +
                           room_.most_slots * sizeof(RunSlot)),
                       room_.most_sentences / 32);
  std::vector<int32_t> sentences;
  const int64_t count = std::min<int64_t>(
      num_sentences_[static_cast<size_t>(row)], room_.most_sentences);
  for (int32_t i = 0; i < count; ++i) {
    if ((words[static_cast<size_t>(i / 32)] >> (i % 32) & 1) != 0) {
      sentences.push_back(i);
    }
  }
  return sentences;
}

std::vector<ChoiceCounts> DeviceChoices::Counts() {
  return device_.Download(launch_.counts, num_choices());
}

ChoiceRow RowOf(const std::vector<int32_t>& lengths, int64_t open,
                const SelectionLimits& limits) {
  ChoiceRow row = {.limits = limits};
  int32_t end = 0;
  for (const int32_t length : lengths) row.ends.push_back(end += length);
  row.num_tokens = end + open;
  row.host_pages.resize(static_cast<size_t>(PagesFor(row.num_tokens)));
  std::iota(row.host_pages.begin(), row.host_pages.end(), 100);
  return row;
}

}  // namespace sentencekv
