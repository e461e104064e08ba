// InspectModel: what a checkpoint contains, for people.
#include <iterator>
#include <map>
#include <string>
#include <string_view>

#include "engine/checkpoint.h"
#include "engine/checkpoint_tokenizer.h"
#include "engine/gguf_fields.h"
#include "engine/model_loader.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "tokenizer/chat_format.h"

namespace sentencekv {
namespace {

std::string StatusText(const absl::Status& status) {
  return std::string(status.message());
}

void AppendLine(std::string* report, std::string_view name,
                std::string_view value) {
  fmt::format_to(std::back_inserter(*report), "  {:<22} {}\n", name, value);
}

// Metadata in the order of the file; of an array only its length.
void AppendMetadata(const GgufFile& file, std::string* report) {
  fmt::format_to(std::back_inserter(*report), "metadata ({} keys)\n",
                 file.metadata().size());
  const GgufFields fields(file, "");
  for (const auto& [key, value] : file.metadata()) {
    const std::string quoted = Quoted(key);
    fmt::format_to(std::back_inserter(*report), "  {} = {}\n",
                   std::string_view(quoted).substr(1, quoted.size() - 2),
                   FieldText(fields.Get(key)));
  }
}

std::string RopeText(const RopeConfig& rope) {
  std::string text =
      fmt::format("{} dimensions, theta {}, scaling {}", rope.rotary_dims,
                  rope.theta, Name(rope.scaling.type));
  if (rope.scaling.type != RopeScalingType::kNone) {
    text += fmt::format(" by {}", rope.scaling.factor);
  }
  return text;
}

void AppendConfig(const LlamaConfig& config, std::string* report) {
  *report += "network\n";
  AppendLine(report, "layers", fmt::format("{}", config.num_layers));
  AppendLine(report, "width", fmt::format("{}", config.width));
  AppendLine(report, "feed-forward width", fmt::format("{}", config.ffn_width));
  AppendLine(
      report, "heads",
      fmt::format("{} query, {} key and value, {} wide", config.num_heads,
                  config.num_kv_heads, config.head_dim));
  AppendLine(report, "vocabulary", fmt::format("{}", config.vocab_size));
  AppendLine(report, "context",
             fmt::format("{} tokens", config.context_length));
  AppendLine(report, "norm epsilon", fmt::format("{}", config.norm_epsilon));
  AppendLine(report, "rotary embedding", RopeText(config.rope));
  AppendLine(report, "rows of q and k",
             config.rope_layout == RopeLayout::kInterleaved ? "interleaved"
                                                            : "halves");
  AppendLine(report, "output matrix",
             config.tied_output ? "the embedding" : "its own");
  AppendLine(report, "biases",
             fmt::format("qkv {}, attention output {}, feed-forward {}",
                         config.qkv_bias, config.attention_output_bias,
                         config.ffn_bias));
}

void AppendTensors(const Checkpoint& checkpoint, std::string* report) {
  struct Total {
    int64_t tensors = 0;
    int64_t elements = 0;
    int64_t bytes = 0;
  };
  std::map<SourceType, Total> totals;
  Total all;
  for (const CheckpointTensor& tensor : checkpoint.tensors) {
    for (Total* total : {&totals[tensor.type], &all}) {
      ++total->tensors;
      total->elements += tensor.num_elements();
      total->bytes += static_cast<int64_t>(tensor.data.size());
    }
  }
  const auto text = [](const Total& total) {
    return fmt::format("{:>6} tensors {:>14} parameters {:>10.1f} MiB",
                       total.tensors, total.elements,
                       static_cast<double>(total.bytes) / (1 << 20));
  };
  *report += "tensors\n";
  for (const auto& [type, total] : totals) {
    AppendLine(report, Name(type), text(total));
  }
  AppendLine(report, "all", text(all));
}

void AppendTokenizer(const LoadedTokenizer& loaded, std::string* report) {
  const Tokenizer& tokenizer = *loaded.tokenizer;
  *report += "tokenizer\n";
  AppendLine(report, "tokens", fmt::format("{}", tokenizer.vocab_size()));
  AppendLine(report, "beginning of text",
             tokenizer.bos_id().has_value()
                 ? fmt::format("{}", *tokenizer.bos_id())
                 : "none");
  AppendLine(report, "stop tokens",
             fmt::format("{}", fmt::join(tokenizer.stop_ids(), ", ")));
  const absl::StatusOr<ChatStyle> style =
      RecogniseChatTemplate(loaded.chat_template);
  AppendLine(report, "chat format",
             style.ok() ? std::string(Name(style->format))
                        : StatusText(style.status()));
}

}  // namespace

absl::StatusOr<std::string> InspectModel(const std::string& path) {
  SKV_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(path));
  std::string report =
      fmt::format("{}\n  {}\n", Quoted(path, 1024),
                  checkpoint.gguf.has_value()
                      ? "GGUF version 3"
                      : fmt::format("Hugging Face folder, {} weight files",
                                    checkpoint.files.size()));
  if (checkpoint.gguf.has_value()) AppendMetadata(*checkpoint.gguf, &report);
  AppendTensors(checkpoint, &report);

  // What cannot be loaded can still be looked at: the report says why not.
  const absl::StatusOr<LlamaConfig> config = checkpoint.Config();
  if (!config.ok()) {
    report += "not supported\n  " + StatusText(config.status()) + "\n";
    return report;
  }
  AppendConfig(*config, &report);
  const absl::StatusOr<LlamaTensors> tensors =
      FindLlamaTensors(*config, checkpoint.naming(), checkpoint.tensors);
  const absl::StatusOr<LoadedTokenizer> tokenizer =
      LoadCheckpointTokenizer(checkpoint, *config);
  if (tokenizer.ok()) AppendTokenizer(*tokenizer, &report);
  for (const absl::Status& status : {tensors.status(), tokenizer.status()}) {
    if (!status.ok()) report += "not supported\n  " + StatusText(status) + "\n";
  }
  return report;
}

}  // namespace sentencekv
