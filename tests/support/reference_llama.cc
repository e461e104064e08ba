#include "tests/support/reference_llama.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "fmt/format.h"

namespace sentencekv {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Frequencies from first principles; see rope_scaling.h for the sources.
std::vector<double> Frequencies(const RopeConfig& rope) {
  const RopeScaling& s = rope.scaling;
  const auto original = static_cast<double>(s.original_context_length);
  std::vector<double> result;
  for (int64_t i = 0; 2 * i < rope.rotary_dims; ++i) {
    const double exponent =
        static_cast<double>(2 * i) / static_cast<double>(rope.rotary_dims);
    const double plain = 1 / std::pow(rope.theta, exponent);
    // How often this pair turns over the original context.
    const double turns = original * plain / (2 * kPi);
    double kept = 1;  // share of the plain frequency
    if (s.type == RopeScalingType::kLinear) kept = 0;
    if (s.type == RopeScalingType::kLlama3) {
      kept = (turns - s.low_frequency_factor) /
             (s.high_frequency_factor - s.low_frequency_factor);
    }
    if (s.type == RopeScalingType::kYarn) {
      const auto pair = [&](double b) {
        return std::log(original / (b * 2 * kPi)) / std::log(rope.theta) *
               static_cast<double>(rope.rotary_dims) / 2;
      };
      const double first = std::max(0.0, std::floor(pair(s.beta_fast)));
      const double last = std::min(static_cast<double>(rope.rotary_dims - 1),
                                   std::ceil(pair(s.beta_slow)));
      kept =
          1 - (static_cast<double>(i) - first) / std::max(0.001, last - first);
    }
    kept = std::min(1.0, std::max(0.0, kept));
    result.push_back(plain * (kept + (1 - kept) / s.factor));
  }
  return result;
}

}  // namespace

ReferenceLlama::ReferenceLlama(const TinyModel& model)
    : model_(model),
      config_(model.config),
      frequencies_(Frequencies(model.config.rope)),
      caches_(static_cast<size_t>(model.config.num_layers)) {
  if (config_.rope.scaling.type == RopeScalingType::kYarn) {
    magnitude_ = 1 + std::log(config_.rope.scaling.factor) / 10;
  }
}

ReferenceLlama::Vector ReferenceLlama::Norm(const Vector& x,
                                            const std::string& name) const {
  const std::vector<float>& weight = model_.tensor(name).values;
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) +
                                     config_.norm_epsilon);
  Vector result;
  for (size_t i = 0; i < x.size(); ++i) {
    result.push_back(x[i] * scale * weight[i]);
  }
  return result;
}

ReferenceLlama::Vector ReferenceLlama::Linear(const Vector& x,
                                              const std::string& name) const {
  const TinyTensor& matrix = model_.tensor(name + ".weight");
  Vector result;
  for (size_t row = 0; row < static_cast<size_t>(matrix.shape[0]); ++row) {
    double sum = 0;
    for (size_t col = 0; col < x.size(); ++col) {
      sum += matrix.values[row * x.size() + col] * x[col];
    }
    if (model_.has_tensor(name + ".bias")) {
      sum += model_.tensor(name + ".bias").values[row];
    }
    result.push_back(sum);
  }
  return result;
}

void ReferenceLlama::Turn(Vector* heads) const {
  for (size_t head = 0; head < heads->size();
       head += static_cast<size_t>(config_.head_dim)) {
    for (size_t i = 0; i < frequencies_.size(); ++i) {
      const double angle = static_cast<double>(position_) * frequencies_[i];
      double& first = (*heads)[head + 2 * i];
      double& second = (*heads)[head + 2 * i + 1];
      const double x = first * magnitude_, y = second * magnitude_;
      first = x * std::cos(angle) - y * std::sin(angle);
      second = x * std::sin(angle) + y * std::cos(angle);
    }
  }
}

ReferenceLlama::Vector ReferenceLlama::Attend(const Vector& q,
                                              const LayerCache& cache) const {
  const auto dim = static_cast<size_t>(config_.head_dim);
  const auto heads = static_cast<size_t>(config_.num_heads);
  const size_t group = heads / static_cast<size_t>(config_.num_kv_heads);
  Vector result(heads * dim);
  for (size_t head = 0; head < heads; ++head) {
    const size_t kv_begin = head / group * dim;
    Vector weights;
    double total = 0, largest = -1e300;
    for (const Vector& key : cache.keys) {
      double score = 0;
      for (size_t d = 0; d < dim; ++d) {
        score += q[head * dim + d] * key[kv_begin + d];
      }
      weights.push_back(score / std::sqrt(static_cast<double>(dim)));
      largest = std::max(largest, weights.back());
    }
    for (double& weight : weights) {
      weight = std::exp(weight - largest);
      total += weight;
    }
    for (size_t p = 0; p < weights.size(); ++p) {
      for (size_t d = 0; d < dim; ++d) {
        result[head * dim + d] +=
            weights[p] / total * cache.values[p][kv_begin + d];
      }
    }
  }
  return result;
}

std::vector<double> ReferenceLlama::Next(int32_t token) {
  const auto width = static_cast<size_t>(config_.width);
  const std::vector<float>& table = model_.tensor("token_embd.weight").values;
  const auto begin =
      table.begin() + static_cast<int64_t>(token) * config_.width;
  Vector hidden(begin, begin + config_.width);
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    const std::string prefix = fmt::format("blk.{}.", layer);
    LayerCache& cache = caches_[static_cast<size_t>(layer)];
    const Vector normed = Norm(hidden, prefix + "attn_norm.weight");
    Vector q = Linear(normed, prefix + "attn_q");
    Vector k = Linear(normed, prefix + "attn_k");
    Turn(&q);
    Turn(&k);
    cache.keys.push_back(k);
    cache.values.push_back(Linear(normed, prefix + "attn_v"));
    const Vector attended = Linear(Attend(q, cache), prefix + "attn_output");
    for (size_t i = 0; i < width; ++i) hidden[i] += attended[i];

    const Vector x = Norm(hidden, prefix + "ffn_norm.weight");
    const Vector gate = Linear(x, prefix + "ffn_gate");
    Vector up = Linear(x, prefix + "ffn_up");
    for (size_t i = 0; i < up.size(); ++i) {
      up[i] *= gate[i] / (1 + std::exp(-gate[i]));
    }
    const Vector down = Linear(up, prefix + "ffn_down");
    for (size_t i = 0; i < width; ++i) hidden[i] += down[i];
  }
  ++position_;
  return Linear(Norm(hidden, "output_norm.weight"),
                config_.tied_output ? "token_embd" : "output");
}

std::vector<std::vector<double>> ReferenceLlama::Run(
    std::span<const int32_t> tokens) {
  for (LayerCache& cache : caches_) cache = LayerCache();
  position_ = 0;
  std::vector<std::vector<double>> logits;
  for (const int32_t token : tokens) logits.push_back(Next(token));
  return logits;
}

}  // namespace sentencekv
