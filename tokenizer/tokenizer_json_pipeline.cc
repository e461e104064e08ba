#include "tokenizer/tokenizer_json_pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "kernels/status_macros.h"
#include "tokenizer/json_access.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;
using SpacePrefix = CharacterBpeSettings::SpacePrefix;

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

// The regular expressions of "Split", as the families' files write them.
constexpr std::string_view kGpt2Split =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The steps at `key`: those of a "Sequence" (listed under `list_key`), the one
// step, or none.
absl::StatusOr<std::vector<const Json*>> Steps(const Json& root,
                                               std::string_view key,
                                               std::string_view list_key) {
  const Json* step = FindMember(root, key);
  if (step == nullptr) return std::vector<const Json*>();
  if (StringMember(*step, "type") != "Sequence") return std::vector{step};
  const Json* list = FindMember(*step, list_key);
  if (list == nullptr || !list->is_array()) {
    return absl::InvalidArgumentError(
        fmt::format("tokenizer.json: {}.{} is not an array", key, list_key));
  }
  std::vector<const Json*> steps;
  for (const Json& one : *list) steps.push_back(&one);
  return steps;
}

bool IsType(const Json& step, std::string_view type) {
  return StringMember(step, "type") == type;
}

absl::Status Unsupported(std::string_view step, const Json& value) {
  return UnsupportedValue(fmt::format("tokenizer.json: {}", step), value);
}

// What cuts the text before a "ByteLevel" step: nothing, digits or a pattern.
absl::StatusOr<std::string> NameOfCutting(const std::vector<const Json*>& steps,
                                          bool uses_regex) {
  if (steps.size() == 1 && uses_regex) return "gpt-2";
  const Json& first = *steps[0];
  if (steps.size() == 2 && uses_regex && IsType(first, "Digits") &&
      first.value("individual_digits", Json()) == Json(true)) {
    return "smollm";
  }
  if (steps.size() == 2 && !uses_regex && IsType(first, "Split") &&
      StringMember(first, "behavior") == "Isolated" &&
      first.value("invert", Json(false)) == Json(false)) {
    const Json* pattern = FindMember(first, "pattern");
    if (pattern == nullptr) return Unsupported("pre_tokenizer", first);
    std::string regex = StringMember(*pattern, "Regex");
    if (regex == kGpt2Split) return "gpt-2";
    if (regex == kLlama3Split) return "llama-bpe";
    return Unsupported("pre_tokenizer.pattern.Regex", regex);
  }
  return Unsupported("pre_tokenizer, the order of its steps beginning with",
                     first);
}

absl::StatusOr<std::string> ReadByteLevel(const Json& root,
                                          const std::vector<const Json*>& pre) {
  constexpr std::string_view kPath = "tokenizer.json: pre_tokenizer";
  const Json& byte_level = *pre.back();
  if (!IsType(byte_level, "ByteLevel")) {
    return Unsupported("pre_tokenizer, its last step", byte_level);
  }
  SKV_ASSIGN_OR_RETURN(bool prefix,
                       FlagMember(byte_level, "add_prefix_space", true, kPath));
  if (prefix) return Unsupported("pre_tokenizer.add_prefix_space", true);
  SKV_ASSIGN_OR_RETURN(bool uses_regex,
                       FlagMember(byte_level, "use_regex", true, kPath));
  SKV_ASSIGN_OR_RETURN(auto normalizers,
                       Steps(root, "normalizer", "normalizers"));
  if (!normalizers.empty()) return Unsupported("normalizer", *normalizers[0]);
  SKV_ASSIGN_OR_RETURN(auto decoders, Steps(root, "decoder", "decoders"));
  if (decoders.size() != 1 || !IsType(*decoders[0], "ByteLevel")) {
    return Unsupported("decoder of a byte-level model",
                       decoders.empty() ? Json() : *decoders[0]);
  }
  return NameOfCutting(pre, uses_regex);
}

// Whether the step replaces `from` by `to`.
bool Replaces(const Json& step, std::string_view from, std::string_view to) {
  const Json* pattern = FindMember(step, "pattern");
  return IsType(step, "Replace") && pattern != nullptr &&
         StringMember(*pattern, "String") == from &&
         StringMember(step, "content") == to;
}

// Sets `writes_spaces` when the normalizer turns spaces into U+2581.
absl::Status ReadNormalizer(const Json& root, CharacterBpeSettings& settings,
                            bool& writes_spaces) {
  SKV_ASSIGN_OR_RETURN(auto steps, Steps(root, "normalizer", "normalizers"));
  for (const Json* step : steps) {
    if (Replaces(*step, " ", kSpaceSymbol)) {
      writes_spaces = true;
    } else if (IsType(*step, "Prepend") && !writes_spaces &&
               StringMember(*step, "prepend") == kSpaceSymbol) {
      settings.space_prefix = SpacePrefix::kAll;
    } else {
      return Unsupported("normalizer", *step);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadMetaspace(const Json& metaspace,
                           CharacterBpeSettings& settings) {
  constexpr std::string_view kPath = "tokenizer.json: pre_tokenizer";
  if (StringMember(metaspace, "replacement") != kSpaceSymbol) {
    return Unsupported("pre_tokenizer.replacement",
                       StringMember(metaspace, "replacement"));
  }
  // Files from before prepend_scheme say add_prefix_space.
  SKV_ASSIGN_OR_RETURN(bool prefix,
                       FlagMember(metaspace, "add_prefix_space", true, kPath));
  std::string scheme = StringMember(metaspace, "prepend_scheme");
  if (scheme.empty()) scheme = prefix ? "always" : "never";
  if (scheme == "always") {
    settings.space_prefix = SpacePrefix::kAll;
  } else if (scheme == "first") {
    settings.space_prefix = SpacePrefix::kFirst;
  } else if (scheme != "never") {
    return Unsupported("pre_tokenizer.prepend_scheme", scheme);
  }
  settings.only_where_missing = true;
  SKV_ASSIGN_OR_RETURN(settings.cut_before_spaces,
                       FlagMember(metaspace, "split", true, kPath));
  return absl::OkStatus();
}

// The decoder must undo what was done to spaces and bytes.
absl::Status ReadDecoder(const Json& root, CharacterBpeSettings& settings) {
  SKV_ASSIGN_OR_RETURN(auto steps, Steps(root, "decoder", "decoders"));
  bool reads_spaces = false;
  for (const Json* step : steps) {
    if (IsType(*step, "Metaspace")) {
      reads_spaces = true;
      settings.strips_leading_space =
          settings.space_prefix != SpacePrefix::kNone;
    } else if (Replaces(*step, kSpaceSymbol, " ")) {
      reads_spaces = true;
    } else if (IsType(*step, "Strip") &&
               StringMember(*step, "content") == " " &&
               step->value("start", Json()) == Json(1) &&
               step->value("stop", Json()) == Json(0)) {
      settings.strips_leading_space = true;
    } else if (!IsType(*step, "ByteFallback") && !IsType(*step, "Fuse")) {
      return Unsupported("decoder", *step);
    }
  }
  if (!reads_spaces) return Unsupported("decoder without spaces", Json());
  return absl::OkStatus();
}

absl::StatusOr<CharacterBpeSettings> ReadCharacterLevel(
    const Json& root, const std::vector<const Json*>& pre) {
  CharacterBpeSettings settings;
  bool writes_spaces = false;
  SKV_RETURN_IF_ERROR(ReadNormalizer(root, settings, writes_spaces));
  if (pre.size() == 1 && IsType(*pre[0], "Metaspace") && !writes_spaces &&
      settings.space_prefix == SpacePrefix::kNone) {
    SKV_RETURN_IF_ERROR(ReadMetaspace(*pre[0], settings));
  } else if (!pre.empty() || !writes_spaces) {
    return Unsupported("pre_tokenizer", pre.empty() ? Json() : *pre[0]);
  }
  SKV_RETURN_IF_ERROR(ReadDecoder(root, settings));
  return settings;
}

// The control token before the text in "single": [first] text.
absl::StatusOr<std::string> ReadTemplate(const Json& processor) {
  constexpr std::string_view kField = "post_processor.single";
  const Json* single = FindMember(processor, "single");
  if (single == nullptr || !single->is_array() || single->empty() ||
      single->size() > 2 || FindMember(single->back(), "Sequence") == nullptr) {
    return Unsupported(kField, single == nullptr ? Json() : *single);
  }
  if (single->size() == 1) return "";
  const Json* token = FindMember(single->front(), "SpecialToken");
  if (token == nullptr || StringMember(*token, "id").empty()) {
    return Unsupported(kField, *single);
  }
  return StringMember(*token, "id");
}

absl::StatusOr<std::string> ReadPostProcessor(const Json& root) {
  SKV_ASSIGN_OR_RETURN(auto steps, Steps(root, "post_processor", "processors"));
  std::string first;
  for (const Json* step : steps) {
    if (IsType(*step, "ByteLevel")) continue;  // offsets only
    if (!IsType(*step, "TemplateProcessing") || !first.empty()) {
      return Unsupported("post_processor", *step);
    }
    SKV_ASSIGN_OR_RETURN(first, ReadTemplate(*step));
  }
  return first;
}

}  // namespace

absl::StatusOr<TokenizerPipeline> ReadPipeline(const Json& root) {
  TokenizerPipeline pipeline;
  SKV_ASSIGN_OR_RETURN(auto pre, Steps(root, "pre_tokenizer", "pretokenizers"));
  const bool is_byte_level =
      std::any_of(pre.begin(), pre.end(),
                  [](const Json* step) { return IsType(*step, "ByteLevel"); });
  if (is_byte_level) {
    SKV_ASSIGN_OR_RETURN(pipeline.pre, ReadByteLevel(root, pre));
  } else {
    SKV_ASSIGN_OR_RETURN(pipeline.characters, ReadCharacterLevel(root, pre));
  }
  SKV_ASSIGN_OR_RETURN(pipeline.first, ReadPostProcessor(root));
  return pipeline;
}

}  // namespace sentencekv
