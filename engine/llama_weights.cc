#include "engine/llama_weights.h"

#include <cmath>
#include <initializer_list>
#include <utility>

#include "absl/status/status.h"
#include "engine/rope_scaling.h"
#include "fmt/format.h"
#include "kernels/block_formats.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

int64_t FileBytes(const LlamaTensors& tensors) {
  int64_t bytes = 0;
  const auto add = [&bytes](const CheckpointTensor* tensor) {
    if (tensor != nullptr) bytes += static_cast<int64_t>(tensor->data.size());
  };
  add(tensors.embedding);
  add(tensors.output);
  for (const LlamaLayerTensors& layer : tensors.layers) {
    for (const CheckpointTensor* tensor :
         {layer.q, layer.k, layer.v, layer.attention_output, layer.gate,
          layer.up, layer.down}) {
      add(tensor);
    }
  }
  return bytes;
}

std::vector<float> ToFloats(const CheckpointTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  DequantizeRow(tensor.type, tensor.data.data(), tensor.num_elements(),
                values.data());
  return values;
}

class Packer {
 public:
  Packer(const LlamaConfig& config, const LlamaTensors& tensors,
         Backend& backend, const std::function<void(double)>& on_progress)
      : config_(config),
        tensors_(tensors),
        backend_(backend),
        on_progress_(on_progress),
        total_bytes_(FileBytes(tensors)) {}

  absl::StatusOr<LlamaWeights> Pack() {
    LlamaWeights weights;
    SKV_ASSIGN_OR_RETURN(weights.embedding, Matrix({tensors_.embedding}));
    for (const LlamaLayerTensors& layer : tensors_.layers) {
      SKV_ASSIGN_OR_RETURN(LlamaLayerWeights packed, Layer(layer));
      weights.layers.push_back(std::move(packed));
    }
    SKV_ASSIGN_OR_RETURN(weights.output_norm, Vector({tensors_.output_norm}));
    if (tensors_.output != nullptr) {
      SKV_ASSIGN_OR_RETURN(weights.output, Matrix({tensors_.output}));
    }
    SKV_ASSIGN_OR_RETURN(weights.inverse_frequency, Frequencies());
    weights.size_bytes = packed_bytes_;
    return weights;
  }

 private:
  using Parts = std::initializer_list<const CheckpointTensor*>;

  absl::StatusOr<LlamaLayerWeights> Layer(const LlamaLayerTensors& layer) {
    LlamaLayerWeights packed;
    SKV_ASSIGN_OR_RETURN(packed.attention_norm, Vector({layer.attention_norm}));
    SKV_ASSIGN_OR_RETURN(packed.qkv,
                         Linear({layer.q, layer.k, layer.v},
                                {layer.q_bias, layer.k_bias, layer.v_bias}));
    SKV_ASSIGN_OR_RETURN(
        packed.attention_output,
        Linear({layer.attention_output}, {layer.attention_output_bias}));
    SKV_ASSIGN_OR_RETURN(packed.ffn_norm, Vector({layer.ffn_norm}));
    SKV_ASSIGN_OR_RETURN(
        packed.gate_up,
        Linear({layer.gate, layer.up}, {layer.gate_bias, layer.up_bias}));
    SKV_ASSIGN_OR_RETURN(packed.down, Linear({layer.down}, {layer.down_bias}));
    return packed;
  }

  // Biases are there for all parts or for none: the configuration says so.
  absl::StatusOr<LinearWeights> Linear(Parts matrices, Parts biases) {
    LinearWeights linear;
    SKV_ASSIGN_OR_RETURN(linear.matrix, Matrix(matrices));
    if (*biases.begin() != nullptr) {
      SKV_ASSIGN_OR_RETURN(linear.bias, Vector(biases));
    }
    return linear;
  }

  absl::StatusOr<WeightMatrix> Matrix(Parts parts) {
    std::vector<MatrixSource> sources;
    std::vector<std::vector<std::byte>> aligned;
    for (const CheckpointTensor* tensor : parts) {
      const std::byte* data = tensor->data.data();
      // A safetensors header may leave numbers at odd addresses.
      if (!IsQuantized(tensor->type) &&
          reinterpret_cast<uintptr_t>(data) % alignof(float) != 0) {
        aligned.emplace_back(tensor->data.begin(), tensor->data.end());
        data = aligned.back().data();
      }
      sources.push_back(
          {data, tensor->type, tensor->shape.front(), tensor->shape.back()});
      done_bytes_ += static_cast<int64_t>(tensor->data.size());
    }
    SKV_ASSIGN_OR_RETURN(WeightMatrix matrix, backend_.PackWeights(sources));
    packed_bytes_ += static_cast<int64_t>(matrix.data.size_bytes());
    if (on_progress_ != nullptr) {
      on_progress_(static_cast<double>(done_bytes_) /
                   static_cast<double>(total_bytes_));
    }
    return matrix;
  }

  // The parts one after another, as f32 on the device.
  absl::StatusOr<Buffer> Vector(Parts parts) {
    std::vector<float> values;
    for (const CheckpointTensor* tensor : parts) {
      const std::vector<float> part = ToFloats(*tensor);
      values.insert(values.end(), part.begin(), part.end());
    }
    return Upload(values);
  }

  absl::StatusOr<Buffer> Upload(const std::vector<float>& values) {
    const size_t size_bytes = values.size() * sizeof(float);
    SKV_ASSIGN_OR_RETURN(Buffer buffer,
                         backend_.Allocate(size_bytes, MemoryUse::kWeights));
    SKV_RETURN_IF_ERROR(
        backend_.CopyToDevice(buffer.data(), values.data(), size_bytes));
    packed_bytes_ += static_cast<int64_t>(size_bytes);
    return buffer;
  }

  // GGUF keeps llama3's scaling as a tensor of divisors.
  absl::StatusOr<Buffer> Frequencies() {
    std::vector<float> frequencies = InverseFrequencies(config_.rope);
    if (tensors_.rope_factors != nullptr) {
      const std::vector<float> factors = ToFloats(*tensors_.rope_factors);
      for (size_t i = 0; i < frequencies.size(); ++i) {
        if (!(factors[i] > 0) || !std::isfinite(factors[i])) {
          return absl::DataLossError(
              fmt::format("tensor {}: element {} must be positive, got {}",
                          Quoted(tensors_.rope_factors->name), i, factors[i]));
        }
        frequencies[i] /= factors[i];
      }
    }
    return Upload(frequencies);
  }

  const LlamaConfig& config_;
  const LlamaTensors& tensors_;
  Backend& backend_;
  const std::function<void(double)>& on_progress_;
  const int64_t total_bytes_;
  int64_t done_bytes_ = 0;    // of the file's matrices
  int64_t packed_bytes_ = 0;  // of what the backend holds
};

}  // namespace

absl::StatusOr<LlamaWeights> PackLlamaWeights(
    const LlamaConfig& config, const LlamaTensors& tensors, Backend& backend,
    const std::function<void(double fraction)>& on_progress) {
  return Packer(config, tensors, backend, on_progress).Pack();
}

}  // namespace sentencekv
