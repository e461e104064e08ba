// Whole models of a few hundred kilobytes, made from a seed: random weights
// and a small vocabulary, as a GGUF file or a Hugging Face folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model_config.h"
#include "kernels/dtype.h"
#include "tests/support/gguf_builder.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

struct TinyModelOptions {
  uint64_t seed = 1;
  int64_t num_layers = 2;
  int64_t width = 64;  // a multiple of the block of the types below
  int64_t ffn_width = 96;
  int64_t num_heads = 4;
  int64_t num_kv_heads = 2;
  int64_t head_dim = 16;
  int64_t context_length = 512;
  SourceType matrix_type = SourceType::kF32;
  SourceType embedding_type = SourceType::kF32;  // and the output matrix's
  SourceType vector_type = SourceType::kF32;     // norms and biases
  // With it the likeliest token is the one just read, whatever else is read:
  // tests that compare greedy tokens do without.
  bool tied_output = true;
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool ffn_bias = false;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  // "gpt2": byte-level BPE with chat tokens; "llama": SentencePiece pieces;
  // "letters": eight tokens, for the smallest of files.
  std::string_view vocabulary = "gpt2";
};

// A tensor with its bytes and, for references, the values they stand for.
struct TinyTensor {
  std::string name;  // GGUF's
  SourceType type = SourceType::kF32;
  std::vector<int64_t> shape;  // outermost first
  std::string data;
  std::vector<float> values;
};

struct TinyModel {
  TinyModelOptions options;
  LlamaConfig config;  // as a reader of the GGUF file must find it
  Vocabulary vocabulary;
  std::vector<TinyTensor> tensors;

  // Aborts when there is no such tensor.
  const TinyTensor& tensor(std::string_view name) const;
  bool has_tensor(std::string_view name) const;
};

// The same options give the same model on every machine.
TinyModel MakeTinyModel(const TinyModelOptions& options);

// The vocabularies that the models carry.
Vocabulary MakeTinyBpeVocabulary();
Vocabulary MakeTinyLlamaVocabulary();
Vocabulary MakeLettersVocabulary();

// All of the model, ready to be built or spoilt.
GgufBuilder TinyGguf(const TinyModel& model);
// Writes the GGUF file to a fresh temporary folder and returns its path.
std::string WriteTinyGguf(const TinyModel& model);

// The files of a Hugging Face folder. REQUIRES: plain float types and the
// "gpt2" vocabulary.
std::string TinyConfigJson(const TinyModel& model);
// The bytes of shard `shard` of `num_shards`; tensors are dealt in turn.
std::string TinySafetensors(const TinyModel& model, int shard = 0,
                            int num_shards = 1);
// Writes them to a fresh temporary folder and returns its path; more than one
// shard come with an index.
std::string WriteTinyFolder(const TinyModel& model, int num_shards = 1);

// Writes `bytes` to `path`; aborts when that fails.
void WriteFile(const std::string& path, std::string_view bytes);

}  // namespace sentencekv
