#include "engine/rope_scaling.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace sentencekv {
namespace {

struct RopeCase {
  const char* name;
  RopeConfig config;
  // Pair index and frequency, computed beforehand in another language and,
  // for yarn, in the other form of the formula (dimensions instead of pairs).
  std::vector<std::pair<size_t, double>> expected;
};

RopeConfig Plain(int64_t dims, double theta) {
  RopeConfig config;
  config.rotary_dims = dims;
  config.theta = theta;
  return config;
}

RopeConfig Scaled(int64_t dims, double theta, RopeScalingType type,
                  double factor, int64_t original) {
  RopeConfig config = Plain(dims, theta);
  config.scaling.type = type;
  config.scaling.factor = factor;
  config.scaling.original_context_length = original;
  return config;
}

class Frequencies : public testing::TestWithParam<RopeCase> {};

TEST_P(Frequencies, AreThoseOfTheFormula) {
  const auto actual = InverseFrequencies(GetParam().config);
  ASSERT_EQ(static_cast<int64_t>(actual.size()),
            GetParam().config.rotary_dims / 2);
  for (const auto& [pair, value] : GetParam().expected) {
    EXPECT_NEAR(actual[pair] / value, 1, 1e-6) << "pair " << pair;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Frequencies,
    testing::Values(
        RopeCase{"llama2",
                 Plain(64, 10000),
                 {{0, 1.0},
                  {1, 0.7498942093324559},
                  {16, 0.01},
                  {31, 0.0001333521432163324}}},
        RopeCase{"smollm2",
                 Plain(64, 100000),
                 {{0, 1.0}, {31, 1.4330125702369627e-05}}},
        RopeCase{"linear",
                 Scaled(64, 10000, RopeScalingType::kLinear, 4, 0),
                 {{0, 0.25}, {16, 0.0025}, {31, 3.33380358040831e-05}}},
        RopeCase{"llama31",
                 Scaled(128, 500000, RopeScalingType::kLlama3, 8, 8192),
                 {{0, 1.0},
                  {1, 0.8146172338565447},
                  {16, 0.03760603093086393},
                  {28, 0.003211445994752591},
                  {29, 0.002166570763503359},
                  {32, 0.0005248461609929547},
                  {34, 0.0001785078127679964},
                  {36, 7.78465527393245e-05},
                  {63, 3.068925988914511e-07}}},
        RopeCase{"llama32",
                 Scaled(64, 500000, RopeScalingType::kLlama3, 32, 8192),
                 {{0, 1.0},
                  {14, 0.003211445994752591},
                  {15, 0.001290547928209264},
                  {16, 0.00042955679655936815},
                  {17, 9.70828780262767e-05},
                  {18, 1.9461638184831125e-05},
                  {31, 9.41830672543491e-08}}},
        RopeCase{"yarn16",
                 Scaled(128, 10000, RopeScalingType::kYarn, 16, 4096),
                 {{0, 1.0},
                  {20, 0.05623413251903491},
                  {21, 0.046940859997959404},
                  {30, 0.00852684377296741},
                  {40, 0.0008817889629315672},
                  {45, 0.0001517716047318249},
                  {46, 8.334508951020775e-05},
                  {63, 7.217387404309114e-06}}},
        RopeCase{"yarn4",
                 Scaled(128, 1000000, RopeScalingType::kYarn, 4, 32768),
                 {{0, 1.0},
                  {23, 0.006978305848598663},
                  {24, 0.005375321490790102},
                  {30, 0.001064360981247002},
                  {39, 6.490394320837029e-05},
                  {40, 4.445698525097307e-05},
                  {63, 3.102344401879299e-07}}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(RopeScaling, YarnMagnitudeGrowsWithTheLogarithmOfTheFactor) {
  EXPECT_DOUBLE_EQ(YarnMagnitude(16), 1.2772588722239782);
  EXPECT_DOUBLE_EQ(YarnMagnitude(4), 1.138629436111989);
  EXPECT_DOUBLE_EQ(YarnMagnitude(4, 2), 1 + 2 * 0.138629436111989);
  EXPECT_DOUBLE_EQ(YarnMagnitude(1), 1);
}

// A context so short that every pair is slow, or so long that none is, leaves
// the ramp without width: still numbers, between the two frequencies.
TEST(RopeScaling, YarnStaysFiniteWhereItsRampHasNoWidth) {
  for (const int64_t original : {1, 2, 7, 1 << 26}) {
    const RopeConfig config =
        Scaled(8, 10000, RopeScalingType::kYarn, 2, original);
    const auto plain = InverseFrequencies(Plain(8, 10000));
    const auto actual = InverseFrequencies(config);
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_LE(actual[i], plain[i] * 1.000001f) << original;
      EXPECT_GE(actual[i], plain[i] / 2.000001f) << original;
    }
  }
}

}  // namespace
}  // namespace sentencekv
