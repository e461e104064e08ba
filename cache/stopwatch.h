// Adds the time of a scope to a sum.
#pragma once

#include <chrono>

namespace sentencekv {

class Stopwatch {
 public:
  // `seconds` must outlive it.
  explicit Stopwatch(double* seconds)
      : seconds_(seconds), started_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() {
    *seconds_ += std::chrono::duration<double>(
                     std::chrono::steady_clock::now() - started_)
                     .count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double* const seconds_;
  const std::chrono::steady_clock::time_point started_;
};

}  // namespace sentencekv
