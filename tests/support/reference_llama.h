// The Llama network written as plainly as possible, in double precision, one
// token after another: what LlamaModel is compared with. Shares no code with
// the engine or the kernels; the weights come dequantised from TinyModel.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/tiny_model.h"

namespace sentencekv {

class ReferenceLlama {
 public:
  // Borrows the model.
  explicit ReferenceLlama(const TinyModel& model);

  // Feeds one token at the next position; the logits after it. [V]
  std::vector<double> Next(int32_t token);

  // The logits after every token of a fresh sequence. [tokens.size()][V]
  std::vector<std::vector<double>> Run(std::span<const int32_t> tokens);

 private:
  using Vector = std::vector<double>;
  struct LayerCache {
    std::vector<Vector> keys;    // [positions][G D]
    std::vector<Vector> values;  // [positions][G D]
  };

  Vector Norm(const Vector& x, const std::string& name) const;
  Vector Linear(const Vector& x, const std::string& name) const;
  void Turn(Vector* heads) const;
  Vector Attend(const Vector& q, const LayerCache& cache) const;

  const TinyModel& model_;
  const LlamaConfig& config_;
  std::vector<double> frequencies_;  // [R/2]
  double magnitude_ = 1;
  std::vector<LayerCache> caches_;
  int64_t position_ = 0;
};

}  // namespace sentencekv
