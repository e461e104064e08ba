#include "engine/prefill_budget.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"

namespace sentencekv {
namespace {

// Share of the past that remains when a new sample comes: about the last ten
// steps count for the cost of a token, the last three for the decode time.
constexpr double kCostDecay = 0.9;
constexpr double kBaselineDecay = 0.7;
// A running median moves by this fraction towards each sample, and faster at
// first.
constexpr double kMedianStep = 0.005;
// Most that a single probe raises the decode time by.
constexpr double kProbeRise = 1.15;
// A slope is believed once the positions seen spread over this many tokens.
constexpr double kPositionSpread = 256;
// A sample is cut at so many times what was predicted: a step that the system
// interrupted says little about the next.
constexpr double kOutlier = 3;

}  // namespace

PrefillBudget::PrefillBudget(int64_t max_tokens)
    : max_tokens_(max_tokens), last_probe_(-kProbeInterval) {
  SKV_CHECK(max_tokens >= 1);
}

int64_t PrefillBudget::TokensBeside(int64_t decode_rows, int64_t position) {
  SKV_CHECK(decode_rows >= 1);
  const Baseline& baseline = BaselineAt(decode_rows);
  const bool stale =
      baseline.seconds < 0 || step_ - baseline.step > kBaselineLifetime;
  if (stale && step_ - last_probe_ >= kProbeInterval) {
    last_probe_ = step_;
    return 0;
  }
  const int64_t floor = std::min(kMinTokens, max_tokens_);
  const double decode_seconds = BaselineNear(decode_rows);
  const double token_seconds = TokenCostAt(static_cast<double>(position));
  int64_t tokens = floor;
  if (decode_seconds >= 0 && token_seconds >= 0) {
    const double room =
        AllowedSeconds(decode_rows, decode_seconds) - decode_seconds;
    tokens = token_seconds * static_cast<double>(max_tokens_) <= room
                 ? max_tokens_
                 : static_cast<int64_t>(room / token_seconds);
    // One lucky measurement does not open the gate at once.
    tokens = std::min(tokens,
                      std::max(last_chunk_ + kMinTokens, last_chunk_ * 5 / 4));
  }
  last_chunk_ = std::clamp(tokens, floor, max_tokens_);
  return last_chunk_;
}

void PrefillBudget::Record(int64_t decode_rows, int64_t prefill_tokens,
                           double mean_position, absl::Duration time) {
  ++step_;
  const double seconds = std::max(absl::ToDoubleSeconds(time), 0.0);
  if (prefill_tokens == 0) {
    if (decode_rows == 0) return;
    if (step_ != last_probe_ + 1) {
      reference_rows_ = 0;
      last_chunk_ = std::min(last_chunk_, kFirstTokens - kMinTokens);
    }
    Baseline& baseline = BaselineAt(decode_rows);
    if (baseline.seconds < 0) {
      baseline.seconds = baseline.usual = seconds;
    } else if (step_ - baseline.step > kBaselineLifetime) {
      // One probe, which the system may have interrupted: it may find decoding
      // faster at once, and slower by a little.
      baseline.seconds = std::min(seconds, kProbeRise * baseline.seconds);
    } else {
      const double cut = std::min(seconds, kOutlier * baseline.seconds);
      baseline.seconds =
          kBaselineDecay * baseline.seconds + (1 - kBaselineDecay) * cut;
    }
    const double move =
        std::max(kMedianStep, 1.0 / static_cast<double>(++baseline.count + 1));
    baseline.usual *= seconds < baseline.usual ? 1 - move : 1 + move;
    baseline.step = step_;
    return;
  }
  // Steps without decoding pay their fixed cost from the prompt tokens, which
  // makes those look dear: the cautious side, and better than nothing.
  const double decode_seconds =
      decode_rows == 0 ? 0 : BaselineNear(decode_rows);
  if (decode_seconds < 0) return;
  if (decode_rows == 0 && weight_ > 1) return;
  LearnTokenCost(mean_position, std::max(seconds - decode_seconds, 0.0) /
                                    static_cast<double>(prefill_tokens));
}

double PrefillBudget::AllowedSeconds(int64_t decode_rows,
                                     double decode_seconds) {
  if (decode_rows != reference_rows_) {
    reference_rows_ = decode_rows;
    const double usual = BaselineAt(decode_rows).usual;
    reference_seconds_ = usual < 0 ? decode_seconds : usual;
  }
  return std::max(kGap * reference_seconds_, kLeastStretch * decode_seconds);
}

PrefillBudget::Baseline& PrefillBudget::BaselineAt(int64_t decode_rows) {
  if (static_cast<int64_t>(baselines_.size()) <= decode_rows) {
    baselines_.resize(decode_rows + 1);
  }
  return baselines_[decode_rows];
}

double PrefillBudget::BaselineNear(int64_t decode_rows) const {
  const int64_t size = static_cast<int64_t>(baselines_.size());
  for (int64_t rows = std::min(decode_rows, size - 1); rows >= 1; --rows) {
    if (baselines_[rows].seconds >= 0) return baselines_[rows].seconds;
  }
  for (int64_t rows = decode_rows + 1; rows < size; ++rows) {
    if (baselines_[rows].seconds >= 0) return baselines_[rows].seconds;
  }
  return -1;
}

double PrefillBudget::TokenCostAt(double position) const {
  if (weight_ == 0) return -1;
  const double mean_x = sum_x_ / weight_;
  const double mean_y = sum_y_ / weight_;
  const double variance = sum_xx_ / weight_ - mean_x * mean_x;
  const double covariance = sum_xy_ / weight_ - mean_x * mean_y;
  // Ridge towards a flat line; attention never gets cheaper with position.
  const double slope = std::max(
      covariance / (variance + kPositionSpread * kPositionSpread), 0.0);
  const double predicted = mean_y + slope * (position - mean_x);
  return std::max(predicted, mean_y / 4);
}

void PrefillBudget::LearnTokenCost(double position, double seconds) {
  if (const double predicted = TokenCostAt(position); predicted > 0) {
    seconds = std::min(seconds, kOutlier * predicted);
  }
  weight_ = kCostDecay * weight_ + 1;
  sum_x_ = kCostDecay * sum_x_ + position;
  sum_y_ = kCostDecay * sum_y_ + seconds;
  sum_xx_ = kCostDecay * sum_xx_ + position * position;
  sum_xy_ = kCostDecay * sum_xy_ + position * seconds;
}

}  // namespace sentencekv
