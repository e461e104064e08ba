#include "server/client/interrupt.h"

#include <gtest/gtest.h>

namespace sentencekv {
namespace {

TEST(Interrupt, DoesNothingWithoutAScope) {
  Interrupt interrupt;
  EXPECT_FALSE(interrupt.Trigger());
}

TEST(Interrupt, CallsTheInnermostScope) {
  Interrupt interrupt;
  int outer = 0;
  int inner = 0;
  const Interrupt::Scope outer_scope(interrupt, [&] { ++outer; });
  {
    const Interrupt::Scope inner_scope(interrupt, [&] { ++inner; });
    EXPECT_TRUE(interrupt.Trigger());
  }
  EXPECT_TRUE(interrupt.Trigger());
  EXPECT_EQ(outer, 1);
  EXPECT_EQ(inner, 1);
}

}  // namespace
}  // namespace sentencekv
