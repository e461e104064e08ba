#include "tests/support/tiny_model.h"

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "fmt/format.h"
#include "kernels/block_formats.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_tensors.h"

namespace sentencekv {
namespace {

class Maker {
 public:
  explicit Maker(const TinyModelOptions& options) : random_(options.seed) {
    model_.options = options;
    model_.vocabulary =
        options.vocabulary == "llama"     ? MakeTinyLlamaVocabulary()
        : options.vocabulary == "letters" ? MakeLettersVocabulary()
                                          : MakeTinyBpeVocabulary();
    FillConfig();
  }

  TinyModel Make() {
    const TinyModelOptions& o = model_.options;
    const int64_t vocab = model_.config.vocab_size;
    Matrix("token_embd.weight", o.embedding_type, vocab, o.width, 1.0f);
    for (int64_t i = 0; i < o.num_layers; ++i) Layer(fmt::format("blk.{}.", i));
    Norm("output_norm.weight");
    if (!o.tied_output) {
      Matrix("output.weight", o.embedding_type, vocab, o.width, 0.5f);
    }
    if (o.rope_scaling.type == RopeScalingType::kLlama3) RopeFactors();
    return std::move(model_);
  }

 private:
  void FillConfig() {
    const TinyModelOptions& o = model_.options;
    LlamaConfig& c = model_.config;
    c.name = "Tiny";
    c.num_layers = o.num_layers;
    c.width = o.width;
    c.ffn_width = o.ffn_width;
    c.num_heads = o.num_heads;
    c.num_kv_heads = o.num_kv_heads;
    c.head_dim = o.head_dim;
    c.vocab_size = static_cast<int64_t>(model_.vocabulary.tokens.size());
    c.context_length = o.context_length;
    c.norm_epsilon = 1e-5f;
    c.rope.rotary_dims = o.head_dim;
    c.rope.theta = o.rope_theta;
    c.rope.scaling = o.rope_scaling;
    if (o.rope_scaling.type == RopeScalingType::kYarn) {
      c.rope.scaling.magnitude = YarnMagnitude(o.rope_scaling.factor);
    }
    c.rope_layout = RopeLayout::kInterleaved;
    c.tied_output = o.tied_output;
    c.qkv_bias = o.qkv_bias;
    c.attention_output_bias = o.attention_output_bias;
    c.ffn_bias = o.ffn_bias;
  }

  void Layer(const std::string& prefix) {
    const TinyModelOptions& o = model_.options;
    const int64_t q_rows = o.num_heads * o.head_dim;
    const int64_t kv_rows = o.num_kv_heads * o.head_dim;
    Norm(prefix + "attn_norm.weight");
    Linear(prefix + "attn_q", q_rows, o.width, o.qkv_bias);
    Linear(prefix + "attn_k", kv_rows, o.width, o.qkv_bias);
    Linear(prefix + "attn_v", kv_rows, o.width, o.qkv_bias);
    Linear(prefix + "attn_output", o.width, q_rows, o.attention_output_bias);
    Norm(prefix + "ffn_norm.weight");
    Linear(prefix + "ffn_gate", o.ffn_width, o.width, o.ffn_bias);
    Linear(prefix + "ffn_up", o.ffn_width, o.width, o.ffn_bias);
    Linear(prefix + "ffn_down", o.width, o.ffn_width, o.ffn_bias);
  }

  void Linear(const std::string& name, int64_t rows, int64_t cols,
              bool has_bias) {
    // Keeps the length of a row's output near that of its input.
    const float scale = 2.0f / std::sqrt(static_cast<float>(cols));
    Matrix(name + ".weight", model_.options.matrix_type, rows, cols, scale);
    if (!has_bias) return;
    Add(name + ".bias", model_.options.vector_type, {rows},
        RandomTensorData(model_.options.vector_type, 1, rows, 0.3f, &random_));
  }

  void Matrix(const std::string& name, SourceType type, int64_t rows,
              int64_t cols, float scale) {
    Add(name, type, {rows, cols},
        RandomTensorData(type, rows, cols, scale, &random_));
  }

  void Norm(const std::string& name) {
    std::vector<float> values;
    for (int64_t i = 0; i < model_.options.width; ++i) {
      values.push_back(1.0f + 0.2f * random_.NextSigned());
    }
    Add(name, model_.options.vector_type, {model_.options.width},
        QuantizeValues(model_.options.vector_type, values));
  }

  // GGUF writes llama3's scaling as what the plain frequencies are divided by.
  void RopeFactors() {
    RopeConfig plain = model_.config.rope;
    plain.scaling = RopeScaling();
    const std::vector<float> scaled = InverseFrequencies(model_.config.rope);
    std::vector<float> factors = InverseFrequencies(plain);
    for (size_t i = 0; i < factors.size(); ++i) factors[i] /= scaled[i];
    Add("rope_freqs.weight", SourceType::kF32,
        {static_cast<int64_t>(factors.size())},
        QuantizeValues(SourceType::kF32, factors));
  }

  void Add(const std::string& name, SourceType type, std::vector<int64_t> shape,
           std::string data) {
    TinyTensor tensor{name, type, std::move(shape), std::move(data), {}};
    int64_t count = 1;
    for (const int64_t size : tensor.shape) count *= size;
    tensor.values.resize(static_cast<size_t>(count));
    DequantizeRow(type, reinterpret_cast<const std::byte*>(tensor.data.data()),
                  count, tensor.values.data());
    model_.tensors.push_back(std::move(tensor));
  }

  TinyModel model_;
  TinyRandom random_;
};

void AddVocabulary(const Vocabulary& vocabulary, GgufBuilder* gguf) {
  gguf->Text("tokenizer.ggml.model", vocabulary.model);
  if (!vocabulary.pre.empty()) {
    gguf->Text("tokenizer.ggml.pre", vocabulary.pre);
  }
  gguf->Texts("tokenizer.ggml.tokens", vocabulary.tokens);
  gguf->Int32s("tokenizer.ggml.token_type", vocabulary.token_types);
  if (!vocabulary.scores.empty()) {
    gguf->Floats("tokenizer.ggml.scores", vocabulary.scores);
  }
  if (!vocabulary.merges.empty()) {
    gguf->Texts("tokenizer.ggml.merges", vocabulary.merges);
  }
  gguf->Uint32("tokenizer.ggml.bos_token_id",
               static_cast<uint32_t>(*vocabulary.bos_id));
  gguf->Uint32("tokenizer.ggml.eos_token_id",
               static_cast<uint32_t>(*vocabulary.eos_id));
  gguf->Uint32("tokenizer.ggml.unknown_token_id",
               static_cast<uint32_t>(*vocabulary.unknown_id));
  gguf->Bool("tokenizer.ggml.add_bos_token", *vocabulary.add_bos);
  if (!vocabulary.chat_template.empty()) {
    gguf->Text("tokenizer.chat_template", vocabulary.chat_template);
  }
}

void AddScaling(const RopeScaling& scaling, GgufBuilder* gguf) {
  // llama3's is in the tensor rope_freqs.weight.
  if (scaling.type != RopeScalingType::kLinear &&
      scaling.type != RopeScalingType::kYarn) {
    return;
  }
  gguf->Text("llama.rope.scaling.type", Name(scaling.type));
  gguf->Float32("llama.rope.scaling.factor",
                static_cast<float>(scaling.factor));
  if (scaling.type == RopeScalingType::kYarn) {
    gguf->Uint32("llama.rope.scaling.original_context_length",
                 static_cast<uint32_t>(scaling.original_context_length));
  }
}

}  // namespace

TinyModel MakeTinyModel(const TinyModelOptions& options) {
  return Maker(options).Make();
}

const TinyTensor& TinyModel::tensor(std::string_view name) const {
  for (const TinyTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  std::abort();
}

bool TinyModel::has_tensor(std::string_view name) const {
  for (const TinyTensor& tensor : tensors) {
    if (tensor.name == name) return true;
  }
  return false;
}

GgufBuilder TinyGguf(const TinyModel& model) {
  const LlamaConfig& c = model.config;
  const auto u32 = [](int64_t value) { return static_cast<uint32_t>(value); };
  GgufBuilder gguf;
  gguf.Text("general.architecture", "llama")
      .Text("general.name", c.name)
      .Uint32("llama.block_count", u32(c.num_layers))
      .Uint32("llama.context_length", u32(c.context_length))
      .Uint32("llama.embedding_length", u32(c.width))
      .Uint32("llama.feed_forward_length", u32(c.ffn_width))
      .Uint32("llama.attention.head_count", u32(c.num_heads))
      .Uint32("llama.attention.head_count_kv", u32(c.num_kv_heads))
      .Uint32("llama.attention.key_length", u32(c.head_dim))
      .Uint32("llama.attention.value_length", u32(c.head_dim))
      .Uint32("llama.rope.dimension_count", u32(c.rope.rotary_dims))
      .Uint32("llama.vocab_size", u32(c.vocab_size))
      .Float32("llama.rope.freq_base", static_cast<float>(c.rope.theta))
      .Float32("llama.attention.layer_norm_rms_epsilon", c.norm_epsilon);
  AddScaling(c.rope.scaling, &gguf);
  AddVocabulary(model.vocabulary, &gguf);
  for (const TinyTensor& tensor : model.tensors) {
    gguf.Tensor(tensor.name, tensor.type, tensor.shape, tensor.data);
  }
  return gguf;
}

std::string WriteTinyGguf(const TinyModel& model) {
  const std::string path = MakeTempDir() + "/tiny.gguf";
  WriteFile(path, TinyGguf(model).Build());
  return path;
}

void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) std::abort();
}

}  // namespace sentencekv
