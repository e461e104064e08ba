// Tiny models as Hugging Face folders.
#include <cstdlib>
#include <cstring>
#include <utility>

#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;

// GGUF's names of a layer's parts, and Hugging Face's.
constexpr std::pair<std::string_view, std::string_view> kLayerNames[] = {
    {"attn_norm.", "input_layernorm."},
    {"attn_q.", "self_attn.q_proj."},
    {"attn_k.", "self_attn.k_proj."},
    {"attn_v.", "self_attn.v_proj."},
    {"attn_output.", "self_attn.o_proj."},
    {"ffn_norm.", "post_attention_layernorm."},
    {"ffn_gate.", "mlp.gate_proj."},
    {"ffn_up.", "mlp.up_proj."},
    {"ffn_down.", "mlp.down_proj."},
};

std::string FolderName(const std::string& name) {
  if (name == "token_embd.weight") return "model.embed_tokens.weight";
  if (name == "output_norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  const size_t dot = name.find('.', 4);  // of "blk.N."
  const std::string index = name.substr(4, dot - 4);
  const std::string part = name.substr(dot + 1);
  for (const auto& [gguf, folder] : kLayerNames) {
    if (part.starts_with(gguf)) {
      return fmt::format("model.layers.{}.{}{}", index, folder,
                         part.substr(gguf.size()));
    }
  }
  std::abort();
}

// The rows of a q or k tensor in Hugging Face's order: in a head, the first of
// each pair, then the second. GGUF has the two of a pair side by side.
std::string RowsAsHalves(const TinyTensor& tensor, int64_t head_dim) {
  const int64_t rows = tensor.shape.front();
  const size_t row_bytes = tensor.data.size() / static_cast<size_t>(rows);
  std::string result;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_dim, i = row % head_dim;
    const int64_t half = head_dim / 2;
    const int64_t pair = i % half, second = i / half;
    const int64_t source = head * head_dim + 2 * pair + second;
    result.append(tensor.data, static_cast<size_t>(source) * row_bytes,
                  row_bytes);
  }
  return result;
}

bool IsTurned(const std::string& name) {
  return name.find("attn_q.") != std::string::npos ||
         name.find("attn_k.") != std::string::npos;
}

std::string_view Dtype(SourceType type) {
  switch (type) {
    case SourceType::kF32:
      return "F32";
    case SourceType::kF16:
      return "F16";
    case SourceType::kBF16:
      return "BF16";
    default:
      std::abort();
  }
}

std::string ShardName(int shard, int num_shards) {
  if (num_shards == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, num_shards);
}

Json ScalingJson(const RopeScaling& scaling) {
  Json json = {{"rope_type", Name(scaling.type)}, {"factor", scaling.factor}};
  if (scaling.type == RopeScalingType::kLlama3) {
    json["low_freq_factor"] = scaling.low_frequency_factor;
    json["high_freq_factor"] = scaling.high_frequency_factor;
  }
  if (scaling.original_context_length != 0) {
    json["original_max_position_embeddings"] = scaling.original_context_length;
  }
  return json;
}

std::string TokenizerJson(const Vocabulary& vocabulary) {
  Json vocab = Json::object(), added = Json::array();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& token = vocabulary.tokens[id];
    vocab[token] = id;
    if (vocabulary.token_types[id] != 3) continue;
    added.push_back({{"id", id},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  const Json bytes = {{"type", "ByteLevel"},
                      {"add_prefix_space", false},
                      {"trim_offsets", true},
                      {"use_regex", true}};
  const Json json = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", Json::array({digits, bytes})}}},
      {"post_processor", nullptr},
      {"decoder", bytes},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"vocab", vocab},
        {"merges", vocabulary.merges}}}};
  return json.dump();
}

}  // namespace

std::string TinyConfigJson(const TinyModel& model) {
  const LlamaConfig& c = model.config;
  Json json = {
      {"architectures", {"LlamaForCausalLM"}},
      {"model_type", "llama"},
      {"hidden_act", "silu"},
      {"num_hidden_layers", c.num_layers},
      {"hidden_size", c.width},
      {"intermediate_size", c.ffn_width},
      {"num_attention_heads", c.num_heads},
      {"num_key_value_heads", c.num_kv_heads},
      {"head_dim", c.head_dim},
      {"vocab_size", c.vocab_size},
      {"max_position_embeddings", c.context_length},
      {"rms_norm_eps", c.norm_epsilon},
      {"rope_theta", c.rope.theta},
      {"rope_scaling", nullptr},
      {"tie_word_embeddings", c.tied_output},
      {"attention_bias", c.qkv_bias},
      {"mlp_bias", c.ffn_bias},
  };
  if (c.rope.scaling.type != RopeScalingType::kNone) {
    json["rope_scaling"] = ScalingJson(c.rope.scaling);
  }
  return json.dump(2);
}

std::string TinySafetensors(const TinyModel& model, int shard, int num_shards) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const TinyTensor& tensor = model.tensors[i];
    if (static_cast<int>(i) % num_shards != shard) continue;
    if (tensor.name == "rope_freqs.weight") continue;  // in config.json
    const size_t begin = data.size();
    data += IsTurned(tensor.name) ? RowsAsHalves(tensor, model.config.head_dim)
                                  : tensor.data;
    header[FolderName(tensor.name)] = {{"dtype", Dtype(tensor.type)},
                                       {"shape", tensor.shape},
                                       {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  while (text.size() % 8 != 0) text.push_back(' ');
  const uint64_t size = text.size();
  std::string bytes(sizeof(size), '\0');
  std::memcpy(bytes.data(), &size, sizeof(size));
  return bytes + text + data;
}

std::string WriteTinyFolder(const TinyModel& model, int num_shards) {
  const std::string folder = MakeTempDir();
  WriteFile(folder + "/config.json", TinyConfigJson(model));
  WriteFile(folder + "/tokenizer.json", TokenizerJson(model.vocabulary));
  const Json tokenizer_config = {
      {"bos_token", "<|im_start|>"},
      {"eos_token", "<|im_end|>"},
      {"unk_token", "<|endoftext|>"},
      {"add_bos_token", false},
      {"chat_template", model.vocabulary.chat_template}};
  WriteFile(folder + "/tokenizer_config.json", tokenizer_config.dump());
  WriteFile(folder + "/generation_config.json",
            Json{{"eos_token_id", *model.vocabulary.eos_id}}.dump());
  Json weight_map = Json::object();
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (model.tensors[i].name == "rope_freqs.weight") continue;
    weight_map[FolderName(model.tensors[i].name)] =
        ShardName(static_cast<int>(i) % num_shards, num_shards);
  }
  for (int shard = 0; shard < num_shards; ++shard) {
    WriteFile(folder + "/" + ShardName(shard, num_shards),
              TinySafetensors(model, shard, num_shards));
  }
  if (num_shards > 1) {
    WriteFile(
        folder + "/model.safetensors.index.json",
        Json{{"metadata", {{"total_size", 0}}}, {"weight_map", weight_map}}
            .dump());
  }
  return folder;
}

}  // namespace sentencekv
