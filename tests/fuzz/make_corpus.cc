// Writes the seeds of the fuzz targets for model files: whole tiny models, and
// files that lie in one place each.
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include "tests/support/gguf_builder.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

namespace fs = std::filesystem;

// A model of one narrow layer and eight tokens: about 2 KiB.
TinyModelOptions Smallest() {
  TinyModelOptions options;
  options.num_layers = 1;
  options.width = 8;
  options.ffn_width = 8;
  options.num_heads = 1;
  options.num_kv_heads = 1;
  options.head_dim = 8;
  options.vocabulary = "letters";
  return options;
}

TinyModelOptions Quantized(SourceType type) {
  TinyModelOptions options = Smallest();
  options.matrix_type = type;
  if (BlockElements(type) > 1) {
    options.width = options.ffn_width = options.head_dim = BlockElements(type);
  }
  return options;
}

TinyModelOptions WithEverything() {
  TinyModelOptions options = Smallest();
  options.num_heads = 2;
  options.tied_output = false;
  options.qkv_bias = options.attention_output_bias = options.ffn_bias = true;
  options.rope_scaling.type = RopeScalingType::kYarn;
  options.rope_scaling.factor = 4;
  options.rope_scaling.original_context_length = 128;
  return options;
}

TinyModelOptions Llama3() {
  TinyModelOptions options = Smallest();
  options.rope_scaling.type = RopeScalingType::kLlama3;
  options.rope_scaling.factor = 8;
  options.rope_scaling.original_context_length = 64;
  return options;
}

void WriteGgufSeeds(const fs::path& folder) {
  const auto write = [&folder](const char* name, const GgufBuilder& builder) {
    WriteFile((folder / name).string(), builder.Build());
  };
  write("whole_f32", TinyGguf(MakeTinyModel(Smallest())));
  write("whole_everything", TinyGguf(MakeTinyModel(WithEverything())));
  write("whole_llama3", TinyGguf(MakeTinyModel(Llama3())));
  for (const SourceType type : {SourceType::kF16, SourceType::kQ4_1}) {
    write(type == SourceType::kF16 ? "whole_f16" : "whole_q4_1",
          TinyGguf(MakeTinyModel(Quantized(type))));
  }
  const std::pair<const char*, std::function<void(GgufBuilder&)>> lies[] = {
      {"lie_version", [](GgufBuilder& b) { b.version = 2; }},
      {"lie_tensor_count",
       [](GgufBuilder& b) { b.extra_tensor_count = int64_t{1} << 60; }},
      {"lie_metadata_count",
       [](GgufBuilder& b) { b.extra_metadata_count = int64_t{1} << 60; }},
      {"lie_shape_overflow",
       [](GgufBuilder& b) {
         b.tensors()[0].dims = {1ull << 32, 1ull << 32, 4};
       }},
      {"lie_shape_wraps",
       [](GgufBuilder& b) {
         b.tensors()[0].dims = {(1ull << 62) + 8, 8};
       }},
      {"lie_offset_wraps",
       [](GgufBuilder& b) { b.tensors()[1].offset = ~0ull - 31; }},
      {"lie_overlap", [](GgufBuilder& b) { b.tensors()[1].offset = 0; }},
      {"lie_type", [](GgufBuilder& b) { b.tensors()[0].ggml_type = 12; }},
      {"lie_alignment",
       [](GgufBuilder& b) { b.Uint32("general.alignment", 0x80000000); }},
      {"lie_nested_array",
       [](GgufBuilder& b) {
         b.Raw("k", 9, std::string("\x09\0\0\0\x01\0\0\0\0\0\0\0", 12));
       }},
      {"lie_string_length",
       [](GgufBuilder& b) { b.Raw("k", 8, std::string(8, '\xff')); }},
      {"lie_trailing",
       [](GgufBuilder& b) { b.tensors().back().data += "more"; }},
  };
  for (const auto& [name, tell] : lies) {
    GgufBuilder builder = TinyGguf(MakeTinyModel(Smallest()));
    tell(builder);
    write(name, builder);
  }
}

void WriteSafetensorsSeeds(const fs::path& folder) {
  const TinyModel model = MakeTinyModel(Smallest());
  const auto write = [&folder](const char* name, const std::string& bytes) {
    WriteFile((folder / name).string(), bytes);
  };
  write("whole", TinySafetensors(model));
  write("shard", TinySafetensors(model, 1, 3));
  write("index", R"({"metadata": {"total_size": 8}, "weight_map":)"
                 R"( {"a": "x.safetensors", "b": "../y", "c": "/z"}})");
  const auto file = [](const std::string& header) {
    return std::string(1, static_cast<char>(header.size())) +
           std::string(7, '\0') + header + "12345678";
  };
  write("lie_overlap",
        file(R"({"a":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},)"
             R"("b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}})"));
  write("lie_shape_wraps",
        file(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],)"
             R"("data_offsets":[0,0]}})"));
  write("lie_twice",
        file(R"({"a":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]},)"
             R"("a":{}})"));
  write("lie_header_size", std::string(8, '\xff'));
  write("lie_deep", file(std::string(100, '[')));
}

void WriteConfigSeeds(const fs::path& folder) {
  const auto write = [&folder](const char* name, const std::string& text) {
    WriteFile((folder / name).string(), text);
  };
  write("plain", TinyConfigJson(MakeTinyModel(Smallest())));
  write("yarn", TinyConfigJson(MakeTinyModel(WithEverything())));
  write("llama3", TinyConfigJson(MakeTinyModel(Llama3())));
  write("lie_deep", "{\"a\":" + std::string(10000, '['));
  write("lie_numbers",
        R"({"model_type":"llama","num_hidden_layers":1e999,)"
        R"("hidden_size":-0,"rope_theta":18446744073709551616})");
}

}  // namespace
}  // namespace sentencekv

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_corpus FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder(argv[1]);
  const std::pair<const char*, void (*)(const std::filesystem::path&)> all[] = {
      {"gguf_fuzz", &sentencekv::WriteGgufSeeds},
      {"safetensors_fuzz", &sentencekv::WriteSafetensorsSeeds},
      {"config_fuzz", &sentencekv::WriteConfigSeeds}};
  for (const auto& [name, write] : all) {
    std::filesystem::create_directories(folder / name);
    write(folder / name);
  }
  return 0;
}
