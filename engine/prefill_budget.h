// How many prompt tokens a step may take while others are decoding, so that
// the gap between their tokens stays even.
//
// A step with a chunk of prompt may take kGap times as long as decoding took
// when the prompts began to come in: what the readers were used to. As their
// own contexts grow, decoding takes more of that and prompts get less, but
// never so little that the step is shorter than kLeastStretch times decoding.
// Both costs are measured while the server runs:
//   - the time of decode-only steps, for each number of decoding sequences;
//   - the time that a prompt token adds, as a line over its position, since the
//     cost of attention grows with what lies before it.
// The chunk follows: (allowed time - decode time) / cost of a token.
//
// The result bounds time only: what is generated does not depend on chunks.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace sentencekv {

// Not thread-safe.
class PrefillBudget {
 public:
  // Longest step with a chunk, in decode-only steps. The promise to users is 4
  // (worst gap over median gap before); the rest is room for noise (memory
  // was seen to be 1.6 times slower for 100 ms) and for a cost that grows
  // faster than measured.
  static constexpr double kGap = 2.2;
  // The same, in decode-only steps of now.
  static constexpr double kLeastStretch = 1.4;
  // Longest first chunk after decoding alone: what it costs is not known well.
  static constexpr int64_t kFirstTokens = 16;
  // A chunk is never smaller, so that prompts always move. Few, because at
  // position 8,000 attention makes a prompt token as dear as several decoding
  // rows.
  static constexpr int64_t kMinTokens = 4;

  // `max_tokens`: a chunk beside decoding is never larger; at least 1.
  explicit PrefillBudget(int64_t max_tokens);

  // Prompt tokens for a step beside `decode_rows` (at least 1) decoding
  // sequences, when the chunk begins at `position`. 0 asks for one decode-only
  // step, because the decode time is not known or is old; that is never asked
  // twice within kProbeInterval steps.
  int64_t TokensBeside(int64_t decode_rows, int64_t position);

  // Learns from a step. `mean_position`: of its prompt tokens.
  void Record(int64_t decode_rows, int64_t prefill_tokens, double mean_position,
              absl::Duration time);

 private:
  static constexpr int64_t kProbeInterval = 8;
  static constexpr int64_t kBaselineLifetime = 128;  // steps

  // Decode-only step time at one number of rows.
  struct Baseline {
    double seconds = -1;  // mean of the last few; negative: not known
    double usual = -1;    // median of the last few hundred
    int64_t count = 0;    // of those measured
    int64_t step = 0;     // when it was measured
  };

  // Seconds that a step with a chunk may take, when decoding alone takes
  // `decode_seconds`.
  double AllowedSeconds(int64_t decode_rows, double decode_seconds);
  Baseline& BaselineAt(int64_t decode_rows);
  // Known seconds at the nearest number of rows, fewer first (the cautious
  // side); negative when nothing is known.
  double BaselineNear(int64_t decode_rows) const;
  // Predicted seconds of one prompt token; negative when nothing is known.
  double TokenCostAt(double position) const;
  void LearnTokenCost(double position, double seconds);

  const int64_t max_tokens_;
  std::vector<Baseline> baselines_;  // by decode rows
  int64_t step_ = 0;                 // of those recorded
  int64_t last_probe_;
  int64_t last_chunk_ = 0;  // largest that the last answer allowed
  // Decode time when prompts began to come in beside so many rows; 0 rows when
  // none does.
  double reference_seconds_ = 0;
  int64_t reference_rows_ = 0;

  // Exponentially weighted sums for the line of cost over position.
  double weight_ = 0;
  double sum_x_ = 0;
  double sum_y_ = 0;
  double sum_xx_ = 0;
  double sum_xy_ = 0;
};

}  // namespace sentencekv
