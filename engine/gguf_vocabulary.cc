#include "engine/gguf_vocabulary.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/gguf_fields.h"
#include "fmt/format.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// The array of this name, or nothing. kDataLoss when it is not an array.
absl::StatusOr<std::optional<GgufArray>> FindArray(const GgufFile& file,
                                                   const std::string& name) {
  const GgufValue* value = file.Find(name);
  if (value == nullptr) return std::nullopt;
  if (const auto* array = std::get_if<GgufArray>(value)) return *array;
  return absl::DataLossError(fmt::format("{}: not an array", name));
}

// Adds the field's name to an error of GgufArray.
template <typename T>
absl::StatusOr<T> Named(const std::string& name, absl::StatusOr<T> result) {
  if (result.ok()) return result;
  return absl::DataLossError(
      fmt::format("{}: {}", name, std::string(result.status().message())));
}

absl::StatusOr<std::vector<std::string>> ReadStrings(const GgufFile& file,
                                                     const std::string& name) {
  SKV_ASSIGN_OR_RETURN(const auto array, FindArray(file, name));
  std::vector<std::string> strings;
  if (!array.has_value()) return strings;
  SKV_ASSIGN_OR_RETURN(const auto views, Named(name, array->Strings()));
  strings.assign(views.begin(), views.end());
  return strings;
}

absl::Status CheckLength(const std::string& name, size_t length,
                         size_t num_tokens) {
  if (length == 0 || length == num_tokens) return absl::OkStatus();
  return absl::DataLossError(
      fmt::format("{}: one for each of {} tokens expected, got {}", name,
                  num_tokens, length));
}

absl::Status ReadTokens(const GgufFile& file, int64_t num_rows,
                        Vocabulary* vocabulary) {
  const std::string tokens = "tokenizer.ggml.tokens";
  SKV_ASSIGN_OR_RETURN(vocabulary->tokens, ReadStrings(file, tokens));
  const size_t count = vocabulary->tokens.size();
  if (count == 0 || static_cast<int64_t>(count) > num_rows) {
    return absl::DataLossError(
        fmt::format("{}: 1 to {} tokens expected, one for each row of the "
                    "embedding; got {}",
                    tokens, num_rows, count));
  }

  const std::string scores = "tokenizer.ggml.scores";
  SKV_ASSIGN_OR_RETURN(const auto score_array, FindArray(file, scores));
  if (score_array.has_value()) {
    SKV_ASSIGN_OR_RETURN(vocabulary->scores,
                         Named(scores, score_array->Floats()));
  }
  SKV_RETURN_IF_ERROR(CheckLength(scores, vocabulary->scores.size(), count));

  const std::string types = "tokenizer.ggml.token_type";
  SKV_ASSIGN_OR_RETURN(const auto type_array, FindArray(file, types));
  if (type_array.has_value()) {
    SKV_ASSIGN_OR_RETURN(const auto numbers,
                         Named(types, type_array->Integers()));
    for (const int64_t number : numbers) {
      if (number < 0 || number > 6) {
        return absl::DataLossError(
            fmt::format("{}: types are 0..6, got {}", types, number));
      }
      vocabulary->token_types.push_back(static_cast<int32_t>(number));
    }
  }
  SKV_RETURN_IF_ERROR(
      CheckLength(types, vocabulary->token_types.size(), count));
  SKV_ASSIGN_OR_RETURN(vocabulary->merges,
                       ReadStrings(file, "tokenizer.ggml.merges"));
  return absl::OkStatus();
}

absl::Status ReadId(const ConfigFields& fields, std::string_view key,
                    size_t num_tokens, std::optional<int32_t>* id) {
  SKV_ASSIGN_OR_RETURN(
      const std::optional<int64_t> value,
      fields.Integer(key, 0, static_cast<int64_t>(num_tokens) - 1));
  if (value.has_value()) *id = static_cast<int32_t>(*value);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Vocabulary> VocabularyFromGguf(const GgufFile& file,
                                              int64_t num_rows) {
  const GgufFields fields(file, "tokenizer.ggml.");
  Vocabulary vocabulary;
  SKV_ASSIGN_OR_RETURN(const auto model, fields.Text("model"));
  if (!model.has_value()) {
    return absl::DataLossError("tokenizer.ggml.model: missing");
  }
  vocabulary.model = *model;
  SKV_ASSIGN_OR_RETURN(const auto pre, fields.Text("pre"));
  vocabulary.pre = pre.value_or("");
  SKV_RETURN_IF_ERROR(ReadTokens(file, num_rows, &vocabulary));
  const size_t count = vocabulary.tokens.size();
  SKV_RETURN_IF_ERROR(
      ReadId(fields, "bos_token_id", count, &vocabulary.bos_id));
  SKV_RETURN_IF_ERROR(
      ReadId(fields, "eos_token_id", count, &vocabulary.eos_id));
  SKV_RETURN_IF_ERROR(
      ReadId(fields, "eot_token_id", count, &vocabulary.eot_id));
  SKV_RETURN_IF_ERROR(
      ReadId(fields, "unknown_token_id", count, &vocabulary.unknown_id));
  SKV_ASSIGN_OR_RETURN(vocabulary.add_bos, fields.Boolean("add_bos_token"));
  SKV_ASSIGN_OR_RETURN(vocabulary.add_space_prefix,
                       fields.Boolean("add_space_prefix"));
  SKV_ASSIGN_OR_RETURN(const auto chat_template,
                       GgufFields(file, "tokenizer.").Text("chat_template"));
  vocabulary.chat_template = chat_template.value_or("");
  return vocabulary;
}

}  // namespace sentencekv
