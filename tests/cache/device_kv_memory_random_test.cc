// Device memory for K and V under random use, and when the device errs.
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "cache/device_kv_memory.h"
#include "gtest/gtest.h"
#include "tests/cache/device_texts.h"
#include "tests/support/fault_backend.h"

namespace sentencekv {
namespace {

// Texts that come, grow, fork, are read as a whole and in part, and end.
class RandomTexts {
 public:
  static constexpr int64_t kMaxTokens = 80;

  RandomTexts(int64_t num_frames, uint32_t seed)
      : random_(seed), device_(num_frames, kMaxTokens, seed) {}

  Device& device() { return device_; }

  // What ends with an error ends its texts, as a step of the engine that fails
  // does; or leaves them as they were.
  void EndTextsOnErrors(bool ends) {
    ends_texts_ = ends;
    if (!ends) device_.RepeatFailedCalls();
  }
  const std::vector<absl::Status>& errors() const { return errors_; }

  void Step() {
    const size_t num_texts = device_.texts().size();
    const uint32_t operation = random_() % 16;
    if (num_texts < 2 || (operation == 0 && num_texts < 6)) {
      device_.Begin();
      Append();
    } else if (operation == 1 && num_texts < 6) {
      Fork();
    } else if (operation == 2 || device_.pool().num_free() < 12) {
      device_.End(AnyText());
    } else if (operation < 8) {
      Append();
    } else if (operation == 8) {
      MovePage();
    } else if (operation < 12) {
      const std::vector<Text*> texts = SomeTexts();
      Check(device_.Read(AnyLayer(), texts), texts);
    } else {
      ReadChosen();
    }
  }

  void ExpectAllRight() {
    for (const auto& text : device_.texts()) device_.ExpectRight(text.get());
  }

 private:
  Text* AnyText() {
    return device_.texts()[random_() % device_.texts().size()].get();
  }
  int64_t AnyLayer() { return random_() % kLayout.num_layers; }

  std::vector<Text*> SomeTexts() {
    std::vector<Text*> texts;
    for (const auto& text : device_.texts()) texts.push_back(text.get());
    std::ranges::shuffle(texts, random_);
    texts.resize(1 + random_() % std::min<size_t>(texts.size(), 3));
    return texts;
  }

  void Append() {
    std::vector<Text*> texts = SomeTexts();
    const int64_t count = 1 + random_() % 24;
    std::erase_if(texts, [&](const Text* text) {
      return text->num_tokens() + count > kMaxTokens;
    });
    Check(device_.Append(texts, count), texts);
  }

  // Some tokens of some pages.
  ChosenPages AnyChoice(const Text& text) {
    ChosenPages chosen;
    for (int32_t page = 0; page * kPageTokens < text.num_tokens(); ++page) {
      if (random_() % 2 == 0) continue;
      const uint32_t there = PageTokenBits(page, 0, text.num_tokens());
      const uint32_t wanted = random_() & there;
      chosen.pages.push_back(page);
      chosen.masks.push_back(
          static_cast<uint16_t>(wanted == 0 ? there : wanted));
    }
    return chosen;
  }

  void ReadChosen() {
    Text* const text = AnyText();
    const int64_t head = random_() % kLayout.num_kv_heads;
    const int64_t layer = AnyLayer();
    absl::Status status =
        device_.ReadChosen(layer, head, text, AnyChoice(*text));
    if (status.ok() && random_() % 2 == 0) {
      status = device_.memory().Prefetch(layer, head, text->cached,
                                         AnyChoice(*text));
    }
    Check(status, {text});
  }

  void MovePage() {
    Text* const text = AnyText();
    const size_t num_full = text->num_tokens() / kPageTokens;
    if (num_full == 0) return;
    Check(device_.MovePage(text, random_() % num_full), {text});
  }

  void Fork() {
    Text* const text = AnyText();
    const auto forked =
        device_.Fork(*text, random_() % (text->num_tokens() + 1));
    Check(forked.status(), {});
  }

  void Check(const absl::Status& status, const std::vector<Text*>& texts) {
    if (status.ok()) return;
    errors_.push_back(status);
    if (!ends_texts_) return;
    for (Text* const text : texts) device_.End(text);
  }

  std::mt19937 random_;
  Device device_;
  bool ends_texts_ = false;
  std::vector<absl::Status> errors_;
};

TEST(DeviceKvMemory, RandomTextsAreRight) {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    // From one layer of the longest text to more than all.
    const int64_t num_frames = seed % 6 == 0 ? 200 : 5 + seed % 12;
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomTexts texts(num_frames, seed);
    for (int step = 0; step < 200; ++step) texts.Step();
    texts.ExpectAllRight();
    EXPECT_TRUE(texts.errors().empty());
    if (testing::Test::HasFailure()) return;
  }
}

// Every call of the backend fails once. Whoever made it gets the error, and no
// text is wrong after it.
class DeviceKvMemoryFault : public testing::TestWithParam<bool> {};

TEST_P(DeviceKvMemoryFault, NoTextIsWrongAfterAnError) {
  const absl::Status ordered = absl::InternalError("ordered");
  for (uint32_t seed = 1; seed <= 2; ++seed) {
    for (int64_t n = 1;; ++n) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", call " << n);
      RandomTexts texts(/*num_frames=*/5 + 2 * seed, seed);
      texts.EndTextsOnErrors(GetParam());
      FaultBackend& backend = texts.device().backend();
      backend.FailCall(n, ordered);
      for (int step = 0; step < 40; ++step) texts.Step();
      const bool failed = !backend.failed_method().empty();
      backend.FailCall(0, ordered);
      texts.ExpectAllRight();
      for (const absl::Status& error : texts.errors()) {
        EXPECT_EQ(error, ordered);
      }
      EXPECT_EQ(std::ssize(texts.errors()) + texts.device().num_repeats(),
                failed ? 1 : 0);
      if (!failed || testing::Test::HasFailure()) break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Texts, DeviceKvMemoryFault, testing::Bool(),
                         [](const auto& info) -> std::string {
                           return info.param ? "End" : "GoOn";
                         });

}  // namespace
}  // namespace sentencekv
