#include "cache/lagging_choice.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/memory_backend.h"

namespace sentencekv {
namespace {

using testing::ElementsAre;

// Two KV heads of two query heads each; heads of two numbers.
constexpr ModelShape kShape = {
    .num_layers = 2, .num_heads = 4, .num_kv_heads = 2, .head_dim = 2};

class LaggingChoiceTest : public testing::Test {
 protected:
  // A step in layer 0, whose queries are at these angles from a fixed one.
  void Step(double head0, double head1) {
    std::vector<float> query;
    for (const double angle : {head0, head0, head1, head1}) {
      query.push_back(static_cast<float>(3 * std::cos(angle)));
      query.push_back(static_cast<float>(3 * std::sin(angle)));
    }
    ASSERT_TRUE(lagging_.SetQuery(backend_, 0, query.data()).ok());
  }
  std::vector<int32_t> Read(int64_t kv_head, std::vector<int32_t> chosen) {
    const auto read = lagging_.Read(0, kv_head, chosen, &num_repairs_);
    return {read.begin(), read.end()};
  }

  MemoryBackend backend_;
  LaggingChoice lagging_{kShape};
  int64_t num_repairs_ = 0;
};

TEST_F(LaggingChoiceTest, TheFirstStepReadsItsOwnChoice) {
  Step(0, 0);
  EXPECT_THAT(Read(0, {1, 2}), ElementsAre(1, 2));
  EXPECT_THAT(Read(1, {3}), ElementsAre(3));
  EXPECT_THAT(lagging_.Next(0, 0), ElementsAre(1, 2));
  EXPECT_EQ(num_repairs_, 0);
}

TEST_F(LaggingChoiceTest, LaterStepsReadTheChoiceBefore) {
  Step(0, 0);
  Read(0, {1});
  Read(1, {2});
  Step(0.1, 0.1);
  EXPECT_THAT(Read(0, {3}), ElementsAre(1));
  EXPECT_THAT(Read(1, {4}), ElementsAre(2));
  EXPECT_THAT(lagging_.Next(0, 0), ElementsAre(3));
  Step(0.2, 0.2);
  EXPECT_THAT(Read(0, {5}), ElementsAre(3));
  EXPECT_EQ(num_repairs_, 0);
}

TEST_F(LaggingChoiceTest, AHeadWhoseQueryHasMovedReadsItsOwn) {
  Step(0, 0);
  Read(0, {1});
  Read(1, {2});
  // Cosines .83 and .87 with the last query.
  Step(std::acos(0.83), std::acos(0.87));
  EXPECT_THAT(Read(0, {3}), ElementsAre(3));
  EXPECT_THAT(Read(1, {4}), ElementsAre(2));
  EXPECT_EQ(num_repairs_, 1);
  // Compared with the last query, not with the first.
  Step(std::acos(0.83), std::acos(0.87));
  EXPECT_THAT(Read(0, {5}), ElementsAre(3));
}

TEST_F(LaggingChoiceTest, AQueryThatIsNotANumberHasMoved) {
  Step(0, 0);
  Read(0, {1});
  Step(std::numeric_limits<double>::quiet_NaN(), 0);
  EXPECT_THAT(Read(0, {2}), ElementsAre(2));
}

}  // namespace
}  // namespace sentencekv
