#include "server/call_metadata.h"

#include <gtest/gtest.h>

namespace sentencekv {
namespace {

constexpr char kValid[] =
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(IsValidTraceparent, TakesTheStandardsForm) {
  EXPECT_TRUE(IsValidTraceparent(kValid));
}

// Each character of a valid value matters.
TEST(IsValidTraceparent, RefusesAnyOtherCharacterAnywhere) {
  for (size_t i = 0; i < sizeof(kValid) - 1; ++i) {
    for (const char c : {'g', 'A', ' ', '\n', '\0'}) {
      std::string text = kValid;
      text[i] = c;
      EXPECT_FALSE(IsValidTraceparent(text)) << text;
    }
  }
}

TEST(IsValidTraceparent, RefusesWrongLengthsVersionsAndZeroIds) {
  const std::string valid = kValid;
  EXPECT_FALSE(IsValidTraceparent(""));
  EXPECT_FALSE(IsValidTraceparent(valid + "0"));
  EXPECT_FALSE(IsValidTraceparent(valid.substr(1)));
  EXPECT_FALSE(IsValidTraceparent("ff" + valid.substr(2)));
  EXPECT_FALSE(IsValidTraceparent("00-" + std::string(32, '0') +
                                  "-b7ad6b7169203331-01"));
  EXPECT_FALSE(IsValidTraceparent("00-0af7651916cd43dd8448eb211c80319c-" +
                                  std::string(16, '0') + "-01"));
}

}  // namespace
}  // namespace sentencekv
