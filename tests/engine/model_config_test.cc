#include "engine/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/support/gguf_builder.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr auto kLoss = absl::StatusCode::kDataLoss;
constexpr auto kNot = absl::StatusCode::kUnimplemented;

// The config.json of a Llama 3.1, as published but for its sizes.
Json LlamaJson() {
  return Json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "attention_bias": false, "hidden_act": "silu", "hidden_size": 256,
    "intermediate_size": 512, "max_position_embeddings": 131072,
    "mlp_bias": false, "num_attention_heads": 8, "num_hidden_layers": 3,
    "num_key_value_heads": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
      "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": false,
    "torch_dtype": "bfloat16", "vocab_size": 1000})");
}

TEST(JsonConfig, ReadsLlama31) {
  const auto config = LlamaConfigFromJson(LlamaJson().dump());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_layers, 3);
  EXPECT_EQ(config->width, 256);
  EXPECT_EQ(config->ffn_width, 512);
  EXPECT_EQ(config->num_heads, 8);
  EXPECT_EQ(config->num_kv_heads, 2);
  EXPECT_EQ(config->head_dim, 32);
  EXPECT_EQ(config->vocab_size, 1000);
  EXPECT_EQ(config->context_length, 131072);
  EXPECT_FLOAT_EQ(config->norm_epsilon, 1e-5f);
  EXPECT_EQ(config->rope_layout, RopeLayout::kHalves);
  EXPECT_FALSE(config->tied_output);
  EXPECT_FALSE(config->qkv_bias);
  EXPECT_EQ(config->rope.rotary_dims, 32);
  EXPECT_EQ(config->rope.theta, 500000);
  EXPECT_EQ(config->rope.scaling.type, RopeScalingType::kLlama3);
  EXPECT_EQ(config->rope.scaling.factor, 8);
  EXPECT_EQ(config->rope.scaling.original_context_length, 8192);
}

TEST(JsonConfig, FillsInWhatOldFilesLeaveOut) {
  Json json = LlamaJson();
  for (const char* key :
       {"architectures", "num_key_value_heads", "rope_scaling", "rope_theta",
        "hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias"}) {
    json.erase(key);
  }
  const auto config = LlamaConfigFromJson(json.dump());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_kv_heads, 8);
  EXPECT_EQ(config->rope.theta, 10000);
  EXPECT_EQ(config->rope.scaling.type, RopeScalingType::kNone);
  EXPECT_FALSE(config->tied_output);
}

TEST(JsonConfig, ReadsMistralWhoseWindowNeverSlides) {
  for (const Json& window : {Json(nullptr), Json(0), Json(131072)}) {
    Json json = LlamaJson();
    json["architectures"] = {"MistralForCausalLM"};
    json["model_type"] = "mistral";
    json["sliding_window"] = window;
    json["head_dim"] = 64;
    json["rope_scaling"] = nullptr;
    const auto config = LlamaConfigFromJson(json.dump());
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->head_dim, 64);
  }
}

TEST(JsonConfig, ReadsBiases) {
  Json json = LlamaJson();
  json["attention_bias"] = true;
  json["mlp_bias"] = true;
  const auto config = LlamaConfigFromJson(json.dump());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_TRUE(config->attention_output_bias);
  EXPECT_TRUE(config->ffn_bias);
}

TEST(JsonConfig, ReadsScalingByBothNamesOfTypeAndOfTheObject) {
  for (const char* object : {"rope_scaling", "rope_parameters"}) {
    for (const char* type : {"type", "rope_type"}) {
      Json json = LlamaJson();
      json.erase("rope_scaling");
      json[object] = {{type, "linear"}, {"factor", 2.5}};
      const auto config = LlamaConfigFromJson(json.dump());
      ASSERT_TRUE(config.ok()) << config.status();
      EXPECT_EQ(config->rope.scaling.type, RopeScalingType::kLinear);
      EXPECT_EQ(config->rope.scaling.factor, 2.5);
    }
  }
  Json json = LlamaJson();
  json.erase("rope_theta");
  json["rope_scaling"] = nullptr;
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  const auto config = LlamaConfigFromJson(json.dump());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.theta, 1e6);
}

TEST(JsonConfig, ReadsYarn) {
  struct {
    Json extra;
    double magnitude;
  } cases[] = {
      {Json::object(), 1.138629436111989},
      {{{"attention_factor", 0.75}}, 0.75},
      {{{"mscale", 1.0}, {"mscale_all_dim", 1.0}}, 1},
      {{{"mscale", 2.0}, {"mscale_all_dim", 1.0}},
       1.277258872223978 / 1.138629436111989},
  };
  for (const auto& c : cases) {
    Json json = LlamaJson();
    json["rope_scaling"] = {{"rope_type", "yarn"},
                            {"factor", 4.0},
                            {"original_max_position_embeddings", 32768},
                            {"beta_fast", 16},
                            {"truncate", false}};
    json["rope_scaling"].update(c.extra);
    const auto config = LlamaConfigFromJson(json.dump());
    ASSERT_TRUE(config.ok()) << config.status();
    const RopeScaling& scaling = config->rope.scaling;
    EXPECT_EQ(scaling.type, RopeScalingType::kYarn);
    EXPECT_EQ(scaling.original_context_length, 32768);
    EXPECT_EQ(scaling.beta_fast, 16);
    EXPECT_EQ(scaling.beta_slow, 1);
    EXPECT_FALSE(scaling.truncate);
    EXPECT_NEAR(scaling.magnitude, c.magnitude, 1e-12);
  }
}

// A merge patch (RFC 7396; null takes the field away) and what is said of it.
struct JsonLie {
  const char* name;
  const char* patch;
  absl::StatusCode code;
  const char* message;
};

class JsonLies : public testing::TestWithParam<JsonLie> {};

TEST_P(JsonLies, AreRefusedByFieldAndValue) {
  Json json = LlamaJson();
  json.merge_patch(Json::parse(GetParam().patch));
  const auto config = LlamaConfigFromJson(json.dump());
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().code(), GetParam().code) << config.status();
  EXPECT_THAT(std::string(config.status().message()),
              HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, JsonLies,
    testing::Values(
        JsonLie{"other_type", R"({"model_type": "qwen2"})", kNot,
                "model_type: not supported, only 'llama' and 'mistral'; got "
                "'qwen2'"},
        JsonLie{"other_architecture", R"({"architectures": ["Gemma"]})", kNot,
                "got 'Gemma'"},
        JsonLie{"architectures_as_text", R"({"architectures": "Llama"})", kNot,
                "architectures"},
        JsonLie{"nothing_said",
                R"({"architectures": null, "model_type": null})", kLoss,
                "model_type: missing"},
        JsonLie{"gelu", R"({"hidden_act": "gelu"})", kNot,
                "hidden_act: not supported, only 'silu'; got 'gelu'"},
        JsonLie{"experts", R"({"num_local_experts": 8})", kNot,
                "num_local_experts: not supported, only none; got 8"},
        JsonLie{"quantization",
                R"({"quantization_config": {"quant_method": "awq"}})", kNot,
                "quantization_config: not supported, only none; got an object"},
        JsonLie{"window", R"({"sliding_window": 4096})", kNot,
                "sliding_window: not supported, only none, or at least the "
                "context of 131072; got 4096"},
        JsonLie{"half_rotary", R"({"partial_rotary_factor": 0.5})", kNot,
                "partial_rotary_factor: not supported, only 1; got 0.5"},
        JsonLie{"interleaved", R"({"rope_interleaved": true})", kNot,
                "rope_interleaved"},
        JsonLie{"dynamic", R"({"rope_scaling": {"rope_type": "dynamic"}})",
                kNot, "rope_scaling.rope_type: not supported"},
        JsonLie{"longrope", R"({"rope_scaling": {"rope_type": "longrope"}})",
                kNot, "got 'longrope'"},
        JsonLie{"scaling_as_text", R"({"rope_scaling": "llama3"})", kLoss,
                "rope_scaling: not an object"},
        JsonLie{"factor_missing", R"({"rope_scaling": {"factor": null}})",
                kLoss, "rope_scaling.factor: missing"},
        JsonLie{"factor_below_one", R"({"rope_scaling": {"factor": 0.5}})",
                kLoss, "rope_scaling.factor: expected a number in 1..1000000"},
        JsonLie{"original_missing",
                R"({"rope_scaling":
                    {"original_max_position_embeddings": null}})",
                kLoss,
                "rope_scaling.original_max_position_embeddings: missing"},
        JsonLie{"frequencies_swapped",
                R"({"rope_scaling": {"high_freq_factor": 0.5}})", kLoss,
                "rope_scaling.high_freq_factor: must be above"},
        JsonLie{"no_layers", R"({"num_hidden_layers": 0})", kLoss,
                "num_hidden_layers: expected an integer in 1..1024, got 0"},
        JsonLie{"layers_missing", R"({"num_hidden_layers": null})", kLoss,
                "num_hidden_layers: missing"},
        JsonLie{"negative_width", R"({"hidden_size": -256})", kLoss,
                "hidden_size: expected an integer in 1..131072, got -256"},
        JsonLie{"width_of_2_to_63", R"({"hidden_size": 9223372036854775808})",
                kLoss, "got 9223372036854775808"},
        JsonLie{"real_width", R"({"hidden_size": 256.5})", kLoss, "got 256.5"},
        JsonLie{"width_as_text", R"({"hidden_size": "256"})", kLoss,
                "got '256'"},
        JsonLie{"ffn_list", R"({"intermediate_size": [1, 2, 3]})", kLoss,
                "got an array of 3"},
        JsonLie{"heads_do_not_divide", R"({"num_attention_heads": 7,
                "num_key_value_heads": 7})",
                kLoss, "num_attention_heads: must divide"},
        JsonLie{"kv_heads_do_not_divide", R"({"num_key_value_heads": 3})",
                kLoss, "num_key_value_heads: must divide"},
        JsonLie{"heads_of_12", R"({"head_dim": 12})", kNot,
                "head_dim: only multiples of 8 up to 256 are supported, got "
                "12"},
        JsonLie{"heads_of_4_by_division", R"({"hidden_size": 32})", kNot,
                "head_dim: only multiples of 8"},
        JsonLie{"odd_heads", R"({"head_dim": 33})", kNot, "head_dim"},
        JsonLie{"wide_heads", R"({"head_dim": 100000})", kLoss,
                "head_dim: expected an integer in 1..256, got 100000"},
        JsonLie{"huge_vocabulary", R"({"vocab_size": 1000000000})", kLoss,
                "vocab_size"},
        JsonLie{"epsilon", R"({"rms_norm_eps": 5})", kLoss,
                "rms_norm_eps: expected a number in 0..0.1, got 5"},
        JsonLie{"theta", R"({"rope_theta": 0})", kLoss, "rope_theta"},
        JsonLie{"theta_as_list", R"({"rope_theta": [1]})", kLoss,
                "rope_theta: expected a number, got an array of 1"},
        JsonLie{"tied_as_text", R"({"tie_word_embeddings": "yes"})", kLoss,
                "tie_word_embeddings: expected true or false, got 'yes'"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(JsonConfig, RefusesWhatIsNotAJsonObject) {
  const std::string deep(5000, '[');
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("3"), std::string("{"),
        std::string("{\"a\": 1, \"a\": 2}"), std::string("{\"\xff\": 1}"),
        "{\"a\": " + deep + "}", std::string("{\"a\": nan}")}) {
    EXPECT_EQ(LlamaConfigFromJson(text).status().code(), kLoss)
        << text.substr(0, 40);
  }
}

// The configuration of a tiny GGUF file after `change`.
absl::StatusOr<LlamaConfig> FromGguf(
    const TinyModelOptions& options,
    const std::function<void(GgufBuilder&)>& change = nullptr) {
  GgufBuilder builder = TinyGguf(MakeTinyModel(options));
  if (change != nullptr) change(builder);
  const std::string bytes = builder.Build();
  const auto file =
      GgufFile::Parse(std::as_bytes(std::span(bytes.data(), bytes.size())));
  if (!file.ok()) return file.status();
  return LlamaConfigFromGguf(*file);
}

TEST(GgufConfig, ReadsWhatTheTinyModelIs) {
  TinyModelOptions options;
  options.num_heads = 6;
  options.num_kv_heads = 3;
  options.head_dim = 24;
  options.tied_output = false;
  options.qkv_bias = true;
  options.ffn_bias = true;
  options.rope_theta = 500000;
  options.rope_scaling.type = RopeScalingType::kYarn;
  options.rope_scaling.factor = 4;
  options.rope_scaling.original_context_length = 128;
  const LlamaConfig expected = MakeTinyModel(options).config;

  const auto config = FromGguf(options);

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->name, "Tiny");
  EXPECT_EQ(config->num_layers, expected.num_layers);
  EXPECT_EQ(config->width, expected.width);
  EXPECT_EQ(config->ffn_width, expected.ffn_width);
  EXPECT_EQ(config->num_heads, 6);
  EXPECT_EQ(config->num_kv_heads, 3);
  EXPECT_EQ(config->head_dim, 24);
  EXPECT_EQ(config->vocab_size, expected.vocab_size);
  EXPECT_EQ(config->context_length, 512);
  EXPECT_FLOAT_EQ(config->norm_epsilon, 1e-5f);
  EXPECT_EQ(config->rope_layout, RopeLayout::kInterleaved);
  EXPECT_FALSE(config->tied_output);
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_FALSE(config->attention_output_bias);
  EXPECT_TRUE(config->ffn_bias);
  EXPECT_EQ(config->rope.theta, 500000);
  EXPECT_EQ(config->rope.scaling.type, RopeScalingType::kYarn);
  EXPECT_EQ(config->rope.scaling.factor, 4);
  EXPECT_EQ(config->rope.scaling.original_context_length, 128);
  EXPECT_NEAR(config->rope.scaling.magnitude, 1.138629436111989, 1e-12);
}

TEST(GgufConfig, TakesFieldsThatChangeNothing) {
  const auto config = FromGguf({}, [](GgufBuilder& b) {
    b.Uint32("llama.expert_count", 0)
        .Uint32("llama.attention.sliding_window", 512)
        .Bool("llama.attention.causal", true)
        .Text("llama.tensor_data_layout", "Meta AI original pth")
        .Text("llama.rope.scaling.type", "none")
        .Float32("llama.rope.scaling.factor", 0)
        .Uint32("general.file_type", 3);
  });
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.scaling.type, RopeScalingType::kNone);
}

TEST(GgufConfig, ReadsTheOldNameOfLinearScaling) {
  const auto config = FromGguf(
      {}, [](GgufBuilder& b) { b.Float32("llama.rope.scale_linear", 4); });
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.scaling.type, RopeScalingType::kLinear);
  EXPECT_EQ(config->rope.scaling.factor, 4);
}

struct GgufLie {
  const char* name;
  std::function<void(GgufBuilder&)> tell;
  absl::StatusCode code;
  const char* message;
};

class GgufConfigLies : public testing::TestWithParam<GgufLie> {};

TEST_P(GgufConfigLies, AreRefusedByFieldAndValue) {
  const auto config = FromGguf({}, GetParam().tell);
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().code(), GetParam().code) << config.status();
  EXPECT_THAT(std::string(config.status().message()),
              HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, GgufConfigLies,
    testing::Values(
        GgufLie{"experts", [](auto& b) { b.Uint32("llama.expert_count", 8); },
                kNot, "llama.expert_count: not supported, only 0; got 8"},
        GgufLie{
            "window",
            [](auto& b) { b.Uint32("llama.attention.sliding_window", 128); },
            kNot, "llama.attention.sliding_window"},
        GgufLie{"not_causal",
                [](auto& b) { b.Bool("llama.attention.causal", false); }, kNot,
                "llama.attention.causal"},
        GgufLie{"parallel",
                [](auto& b) { b.Bool("llama.use_parallel_residual", true); },
                kNot, "llama.use_parallel_residual"},
        GgufLie{"unknown_field",
                [](auto& b) { b.Float32("llama.logit_scale", 2); }, kNot,
                "'llama.logit_scale': a field that is not supported; got 2"},
        GgufLie{"longrope",
                [](auto& b) { b.Text("llama.rope.scaling.type", "longrope"); },
                kNot, "llama.rope.scaling.type"},
        GgufLie{"factor_below_one",
                [](auto& b) { b.Float32("llama.rope.scaling.factor", 0.5); },
                kNot, "llama.rope.scaling.factor"},
        GgufLie{"factor_not_a_number",
                [](auto& b) {
                  b.Float32("llama.rope.scaling.factor", 0.0f / 0.0f);
                },
                kLoss, "llama.rope.scaling.factor"},
        GgufLie{"half_yarn",
                [](auto& b) {
                  b.Float32("llama.rope.scaling.yarn_ext_factor", 0.5);
                },
                kNot, "yarn_ext_factor"},
        GgufLie{"embedding_missing",
                [](auto& b) { b.tensors()[0].name = "other"; }, kLoss,
                "'token_embd.weight': missing"},
        GgufLie{"rows_of_embedding",
                [](auto& b) {
                  b.tensors()[0].dims = {b.tensors()[0].data.size() / 4};
                  b.tensors()[0].dims.push_back(1);
                },
                kLoss, "llama.vocab_size: 'token_embd.weight' has 1 rows"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(GgufConfig, RefusesFilesWithoutTheFieldsItNeeds) {
  GgufBuilder builder;
  builder.Text("general.architecture", "llama");
  builder.Uint32("llama.block_count", 1);
  std::string bytes = builder.Build();
  auto file =
      GgufFile::Parse(std::as_bytes(std::span(bytes.data(), bytes.size())));
  ASSERT_TRUE(file.ok());
  EXPECT_THAT(std::string(LlamaConfigFromGguf(*file).status().message()),
              HasSubstr("llama.embedding_length: missing"));

  GgufBuilder other;
  other.Text("general.architecture", "mamba");
  bytes = other.Build();
  file = GgufFile::Parse(std::as_bytes(std::span(bytes.data(), bytes.size())));
  ASSERT_TRUE(file.ok());
  EXPECT_THAT(
      std::string(LlamaConfigFromGguf(*file).status().message()),
      HasSubstr("general.architecture: not supported, only 'llama'; got "
                "'mamba'"));
}

}  // namespace
}  // namespace sentencekv
