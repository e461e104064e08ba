// Texts whose K and V a device with memory of its own has: for tests of
// cache/device_kv_memory.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "cache/kv_memory.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/status_macros.h"
#include "tests/support/fault_backend.h"

namespace sentencekv {

inline constexpr KvLayout kLayout = {.num_layers = 2,
                                     .num_pages = 64,
                                     .num_kv_heads = 2,
                                     .head_dim = 4,
                                     .dtype = DType::kF32};
// To the memory K and V are bytes. Here those of a (page, KV head) are one
// token after the other.
inline constexpr int64_t kTokenWords = 2 * 4;

// A sequence, and what its K and V should be.
struct Text {
  CachedSequence cached;
  std::vector<uint32_t> salts;  // of each position

  int64_t num_tokens() const { return cached.num_tokens; }
};

inline uint32_t WordOf(uint32_t salt, int64_t layer, int64_t kv_head) {
  return salt * 8 + static_cast<uint32_t>(layer * 4 + kv_head);
}

inline ChosenPages Choose(std::vector<int32_t> pages,
                          std::vector<uint16_t> masks) {
  return {std::move(pages), std::move(masks), 0};
}

// A device whose copies run as late as events allow, its memory for K and V,
// and texts in it. Operations write and read at once, as the CPU's do.
class Device {
 public:
  Device(int64_t num_frames, int64_t max_tokens, uint32_t seed = 1)
      : random_(seed),
        backend_(std::move(MakeCpuBackend({.num_threads = 1,
                                           .own_memory = CopyTiming::kLatest}))
                     .value()),
        pool_(*PagePool::Create(backend_, kLayout)),
        memory_(*KvMemory::Create(
            *pool_, {.device_bytes = num_frames * kLayout.page_bytes(),
                     .max_sequence_tokens = max_tokens})) {}
  ~Device() {
    while (!texts_.empty()) End(texts_.back().get());
    EXPECT_EQ(memory_->transfers().frames_used, 0);
    EXPECT_EQ(pool_->stats().used, 0);
  }

  Text* Begin() {
    texts_.push_back(std::make_unique<Text>());
    return texts_.back().get();
  }
  void End(Text* text) {
    memory_->Release(text->cached);
    pool_->Release(text->cached.pages);
    std::erase_if(texts_, [&](const auto& one) { return one.get() == text; });
  }

  // Each text gets `count` tokens, in all layers.
  absl::Status Append(std::span<Text* const> texts, int64_t count) {
    for (Text* const text : texts) {
      text->salts.resize(static_cast<size_t>(text->num_tokens()));
      for (int64_t i = 0; i < count; ++i) {
        text->salts.push_back(static_cast<uint32_t>(random_()) >> 8);
      }
      const int64_t missing =
          PagesFor(std::ssize(text->salts)) - std::ssize(text->cached.pages);
      if (missing <= 0) continue;
      SKV_RETURN_IF_ERROR(pool_->Take(missing, &text->cached.pages));
    }
    for (int64_t layer = 0; layer < kLayout.num_layers; ++layer) {
      SKV_RETURN_IF_ERROR(Write(layer, texts, count));
    }
    for (Text* const text : texts) text->cached.num_tokens += count;
    return absl::OkStatus();
  }
  void Append(Text* text, int64_t count) {
    ASSERT_EQ(Append({&text, 1}, count), absl::OkStatus());
  }

  // Expects K and V of texts to be right where attention reads them all.
  absl::Status Read(int64_t layer, std::span<Text* const> texts) {
    std::vector<const int32_t*> frames(texts.size());
    const auto bring = [&](int64_t i) -> absl::Status {
      Text& text = *texts[static_cast<size_t>(i)];
      SKV_ASSIGN_OR_RETURN(
          frames[static_cast<size_t>(i)],
          memory_->Bring(layer, text.cached, 0, text.num_tokens()));
      return absl::OkStatus();
    };
    const auto read = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Text& text = *texts[static_cast<size_t>(i)];
        for (int64_t p = 0; p < text.num_tokens(); ++p) {
          const int32_t frame = frames[static_cast<size_t>(i)][p / kPageTokens];
          for (int64_t head = 0; head < kLayout.num_kv_heads; ++head) {
            ExpectToken(memory_->view(layer), frame, layer, head, text, p);
          }
        }
      }
      return absl::OkStatus();
    };
    return RunInPieces(*memory_, std::ssize(texts), bring, read);
  }
  void ExpectRight(Text* text) {
    for (int64_t layer = 0; layer < kLayout.num_layers; ++layer) {
      EXPECT_EQ(Read(layer, {&text, 1}), absl::OkStatus());
    }
  }

  // And where attention of a KV head reads what it chose.
  absl::Status ReadChosen(int64_t layer, int64_t head, Text* text,
                          const ChosenPages& chosen) {
    std::vector<int32_t> numbers;
    const auto bring = [&](int64_t) {
      return memory_->BringChosen(layer, head, text->cached, chosen, &numbers);
    };
    const auto read = [&](int64_t, int64_t) {
      EXPECT_EQ(numbers.size(), chosen.pages.size());
      for (size_t i = 0; i < numbers.size(); ++i) {
        for (int64_t t = 0; t < kPageTokens; ++t) {
          if ((chosen.masks[i] >> t & 1) == 0) continue;
          ExpectToken(memory_->chosen_view(layer), numbers[i], layer, head,
                      *text, chosen.pages[i] * kPageTokens + t);
        }
      }
      return absl::OkStatus();
    };
    return RunInPieces(*memory_, 1, bring, read);
  }
  void ExpectChosenRight(int64_t head, Text* text, const ChosenPages& chosen) {
    EXPECT_EQ(ReadChosen(/*layer=*/1, head, text, chosen), absl::OkStatus());
  }

  // A text that begins with `num_tokens` tokens of another: it shares their
  // pages, but for the last where it is not full.
  absl::StatusOr<Text*> Fork(const Text& source, int64_t num_tokens) {
    const auto num_shared = static_cast<size_t>(num_tokens / kPageTokens);
    Text* const fork = Begin();
    fork->salts.assign(source.salts.begin(), source.salts.begin() + num_tokens);
    for (size_t i = 0; i < num_shared; ++i) {
      pool_->Share(source.cached.pages[i]);
      fork->cached.pages.push_back(source.cached.pages[i]);
    }
    if (num_tokens % kPageTokens != 0) {
      absl::Status copied = pool_->Take(1, &fork->cached.pages);
      if (copied.ok()) {
        copied = Again([&] {
          return memory_->CopyPage(source.cached.pages[num_shared],
                                   fork->cached.pages.back());
        });
      }
      if (!copied.ok()) {
        End(fork);
        return copied;
      }
    }
    fork->cached.num_tokens = num_tokens;
    return fork;
  }

  // The K and V of a page move to another one, as where two sequences turn out
  // to begin alike. The old page is the next that is taken.
  absl::Status MovePage(Text* text, size_t index) {
    std::vector<int32_t> moved;
    SKV_RETURN_IF_ERROR(pool_->Take(1, &moved));
    int32_t& page = text->cached.pages[index];
    const absl::Status copied =
        Again([&] { return memory_->CopyPage(page, moved[0]); });
    if (copied.ok()) std::swap(page, moved[0]);
    pool_->Release(moved);
    return copied;
  }

  // Makes everything that is on the device and not in use go.
  void EvictAll() {
    Text* const text = Begin();
    for (int64_t i = 0; i < memory_->transfers().frames_total; ++i) {
      Append(text, kPageTokens);
    }
    End(text);
  }

  // Calls of Save and CopyPage that fail are made a second time.
  void RepeatFailedCalls() { repeats_ = true; }
  int64_t num_repeats() const { return num_repeats_; }

  FaultBackend& backend() { return backend_; }
  PagePool& pool() { return *pool_; }
  KvMemory& memory() { return *memory_; }
  KvTransfers transfers() const { return memory_->transfers(); }
  const std::vector<std::unique_ptr<Text>>& texts() const { return texts_; }

 private:
  absl::Status Write(int64_t layer, std::span<Text* const> texts,
                     int64_t count) {
    std::vector<const int32_t*> frames(texts.size());
    const auto bring = [&](int64_t i) -> absl::Status {
      Text& text = *texts[static_cast<size_t>(i)];
      SKV_ASSIGN_OR_RETURN(
          frames[static_cast<size_t>(i)],
          memory_->BringToWrite(layer, text.cached, text.num_tokens(),
                                text.num_tokens() + count));
      return absl::OkStatus();
    };
    const auto write = [&](int64_t begin, int64_t end) -> absl::Status {
      for (int64_t i = begin; i < end; ++i) {
        Text& text = *texts[static_cast<size_t>(i)];
        const int64_t first = text.num_tokens();
        for (int64_t p = first; p < first + count; ++p) {
          const int32_t frame = frames[static_cast<size_t>(i)][p / kPageTokens];
          for (int64_t head = 0; head < kLayout.num_kv_heads; ++head) {
            std::ranges::fill(
                TokenOf(memory_->view(layer), frame, head, p),
                WordOf(text.salts[static_cast<size_t>(p)], layer, head));
          }
        }
        SKV_RETURN_IF_ERROR(Again([&] {
          return memory_->Save(layer, text.cached, first, first + count);
        }));
      }
      return absl::OkStatus();
    };
    return RunInPieces(*memory_, std::ssize(texts), bring, write);
  }

  template <typename Call>
  absl::Status Again(Call&& call) {
    absl::Status status = call();
    if (status.ok() || !repeats_) return status;
    ++num_repeats_;
    return call();
  }

  static std::span<uint32_t> TokenOf(const KvLayerView& view, int64_t number,
                                     int64_t head, int64_t position) {
    return std::span(reinterpret_cast<uint32_t*>(view.head(number, head)) +
                         position % kPageTokens * kTokenWords,
                     kTokenWords);
  }
  static void ExpectToken(const KvLayerView& view, int64_t number,
                          int64_t layer, int64_t head, const Text& text,
                          int64_t position) {
    if (testing::Test::HasFailure()) return;  // one says enough
    const uint32_t right =
        WordOf(text.salts[static_cast<size_t>(position)], layer, head);
    for (const uint32_t word : TokenOf(view, number, head, position)) {
      if (word == right) continue;
      ADD_FAILURE() << "layer " << layer << ", KV head " << head
                    << ", position " << position << ": " << word << ", not "
                    << right;
      return;
    }
  }

  std::mt19937 random_;
  FaultBackend backend_;
  const std::unique_ptr<PagePool> pool_;
  const std::unique_ptr<KvMemory> memory_;
  std::vector<std::unique_ptr<Text>> texts_;
  bool repeats_ = false;
  int64_t num_repeats_ = 0;
};

}  // namespace sentencekv
