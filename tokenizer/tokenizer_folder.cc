// Loading the tokenizer of a Hugging Face folder: which files there are, and
// which of them has the last word.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "tokenizer/json_access.h"
#include "tokenizer/sentencepiece_tokenizer.h"
#include "tokenizer/strict_json.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_json.h"

namespace sentencekv {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// The largest published tokenizer.json has 33 MB.
constexpr uintmax_t kMaxTokenizerBytes = uintmax_t{128} << 20;
constexpr uintmax_t kMaxSettingsBytes = uintmax_t{8} << 20;
constexpr size_t kMaxStopIds = 64;

// The content of a file; nothing when there is none. kInvalidArgument when it
// is not a regular file or too large, kDataLoss when it cannot be read.
absl::StatusOr<std::optional<std::string>> ReadIfThere(const fs::path& path,
                                                       uintmax_t max_bytes) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return std::nullopt;
  const std::string name = Quoted(path.string(), 300);
  if (status.type() != fs::file_type::regular) {
    return absl::InvalidArgumentError(
        fmt::format("not a regular file: {}", name));
  }
  const uintmax_t size = fs::file_size(path, error);
  if (error) {
    return absl::DataLossError(
        fmt::format("cannot read {}: {}", name, error.message()));
  }
  if (size > max_bytes) {
    return absl::InvalidArgumentError(fmt::format(
        "{} must have at most {} bytes: {}", name, max_bytes, size));
  }
  std::string content(size, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(content.data(), static_cast<std::streamsize>(size));
  if (!file) return absl::DataLossError(fmt::format("cannot read {}", name));
  return content;
}

// A settings file that may be missing: then an empty object.
absl::StatusOr<Json> ReadSettings(const fs::path& folder,
                                  const std::string& name) {
  SKV_ASSIGN_OR_RETURN(auto text,
                       ReadIfThere(folder / name, kMaxSettingsBytes));
  if (!text.has_value()) return Json::object();
  return ParseJsonObject(*text, name);
}

std::optional<int32_t> FindToken(const Vocabulary& vocabulary,
                                 std::string_view token) {
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.tokens[id] == token) return static_cast<int32_t>(id);
  }
  return std::nullopt;
}

// Sets `id` to the token that the settings name under `key`, as a string or as
// an object with "content"; leaves it alone when they name none.
absl::Status ReadTokenId(const Json& settings, const std::string& file,
                         const char* key, const Vocabulary& vocabulary,
                         std::optional<int32_t>& id) {
  const Json* named = FindMember(settings, key);
  if (named == nullptr) return absl::OkStatus();
  const std::string token = named->is_string()
                                ? named->get<std::string>()
                                : StringMember(*named, "content");
  id = FindToken(vocabulary, token);
  if (id.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: {} is not a token: {}", file, key, Quoted(token)));
}

// The members of generation_config.json's eos_token_id: one id or a list.
absl::Status ReadStopIds(const Json& generation, Vocabulary& vocabulary) {
  const Json* ids = FindMember(generation, "eos_token_id");
  if (ids == nullptr) return absl::OkStatus();
  const Json list = ids->is_array() ? *ids : Json::array({*ids});
  if (list.size() > kMaxStopIds) {
    return absl::InvalidArgumentError(fmt::format(
        "generation_config.json: eos_token_id must list at most {} ids: {}",
        kMaxStopIds, list.size()));
  }
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id >= vocabulary.tokens.size()) {
      return UnsupportedValue("generation_config.json: eos_token_id", id);
    }
    vocabulary.stop_ids.push_back(id.get<int32_t>());
  }
  return absl::OkStatus();
}

// What the settings files say about BOS, EOS and stopping.
absl::Status ApplySettings(const fs::path& folder, const Json& config,
                           Vocabulary& vocabulary) {
  SKV_ASSIGN_OR_RETURN(const Json special,
                       ReadSettings(folder, "special_tokens_map.json"));
  SKV_ASSIGN_OR_RETURN(const Json generation,
                       ReadSettings(folder, "generation_config.json"));
  const std::pair<const Json*, std::string> sources[] = {
      {&special, "special_tokens_map.json"},
      {&config, "tokenizer_config.json"}};  // has the last word
  for (const auto& [settings, file] : sources) {
    SKV_RETURN_IF_ERROR(ReadTokenId(*settings, file, "bos_token", vocabulary,
                                    vocabulary.bos_id));
    SKV_RETURN_IF_ERROR(ReadTokenId(*settings, file, "eos_token", vocabulary,
                                    vocabulary.eos_id));
  }
  if (FindMember(config, "add_bos_token") != nullptr) {
    SKV_ASSIGN_OR_RETURN(
        vocabulary.add_bos,
        FlagMember(config, "add_bos_token", false, "tokenizer_config.json"));
  }
  return ReadStopIds(generation, vocabulary);
}

// A token that tokenizer_config.json adds to those of tokenizer.model, or whose
// kind it changes.
absl::Status AddToken(int64_t id, const Json& added, Vocabulary& vocabulary) {
  const std::string path =
      fmt::format("tokenizer_config.json: added_tokens_decoder.{}", id);
  const std::string content = StringMember(added, "content");
  SKV_ASSIGN_OR_RETURN(bool special, FlagMember(added, "special", false, path));
  const int64_t count = static_cast<int64_t>(vocabulary.tokens.size());
  if (id > count || content.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "{} has no content or leaves a gap after {} tokens", path, count));
  }
  if (id == count) {
    vocabulary.tokens.push_back(content);
    vocabulary.scores.push_back(0);
    vocabulary.token_types.push_back(kUserDefinedToken);
  }
  if (vocabulary.tokens[id] != content) {
    return absl::InvalidArgumentError(
        fmt::format("{} is {} in tokenizer.model: {}", path,
                    Quoted(vocabulary.tokens[id]), Quoted(content)));
  }
  int32_t& type = vocabulary.token_types[id];
  const bool is_plain = type == kNormalToken || type == kUserDefinedToken;
  if (special && is_plain) type = kControlToken;
  return absl::OkStatus();
}

absl::Status AddTokens(const Json& config, Vocabulary& vocabulary) {
  const Json* decoder = FindMember(config, "added_tokens_decoder");
  if (decoder == nullptr) return absl::OkStatus();
  if (!decoder->is_object()) {
    return UnsupportedValue("tokenizer_config.json: added_tokens_decoder",
                            *decoder);
  }
  std::map<int64_t, const Json*> by_id;  // JSON orders "10" before "9"
  for (const auto& [key, added] : decoder->items()) {
    const bool is_id = !key.empty() && key.size() < 9 &&
                       key.find_first_not_of("0123456789") == key.npos;
    if (!is_id) {
      return UnsupportedValue(
          "tokenizer_config.json: added_tokens_decoder, the id", key);
    }
    by_id[std::stoll(key)] = &added;
  }
  for (const auto& [id, added] : by_id) {
    SKV_RETURN_IF_ERROR(AddToken(id, *added, vocabulary));
  }
  return absl::OkStatus();
}

// chat_template.jinja, else the template in tokenizer_config.json: a string,
// or a list of named ones, of which "default" is taken.
absl::StatusOr<std::string> ReadChatTemplate(const fs::path& folder,
                                             const Json& config) {
  SKV_ASSIGN_OR_RETURN(auto file, ReadIfThere(folder / "chat_template.jinja",
                                              kMaxSettingsBytes));
  if (file.has_value()) return *file;
  const Json* member = FindMember(config, "chat_template");
  if (member == nullptr) return "";
  if (member->is_string()) return member->get<std::string>();
  if (!member->is_array()) {
    return UnsupportedValue("tokenizer_config.json: chat_template", *member);
  }
  for (const Json& named : *member) {
    if (StringMember(named, "name") == "default") {
      return StringMember(named, "template");
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<LoadedTokenizer> LoadTokenizerFolder(const std::string& folder) {
  const fs::path path(folder);
  SKV_ASSIGN_OR_RETURN(const Json config,
                       ReadSettings(path, "tokenizer_config.json"));
  LoadedTokenizer loaded;
  SKV_ASSIGN_OR_RETURN(loaded.chat_template, ReadChatTemplate(path, config));
  SKV_ASSIGN_OR_RETURN(
      auto json_text, ReadIfThere(path / "tokenizer.json", kMaxTokenizerBytes));
  if (json_text.has_value()) {
    SKV_ASSIGN_OR_RETURN(TokenizerJson json, ParseTokenizerJson(*json_text));
    SKV_RETURN_IF_ERROR(ApplySettings(path, config, json.vocabulary));
    SKV_ASSIGN_OR_RETURN(loaded.tokenizer, MakeTokenizer(json));
    return loaded;
  }
  SKV_ASSIGN_OR_RETURN(auto model_bytes, ReadIfThere(path / "tokenizer.model",
                                                     kMaxTokenizerBytes));
  if (!model_bytes.has_value()) {
    return absl::NotFoundError(fmt::format(
        "no tokenizer.json and no tokenizer.model in {}", Quoted(folder, 300)));
  }
  SKV_ASSIGN_OR_RETURN(SentencePieceModel model,
                       ParseSentencePieceModel(*model_bytes));
  SKV_RETURN_IF_ERROR(AddTokens(config, model.vocabulary));
  SKV_RETURN_IF_ERROR(ApplySettings(path, config, model.vocabulary));
  SKV_ASSIGN_OR_RETURN(loaded.tokenizer,
                       SentencePieceTokenizer::Make(std::move(model)));
  return loaded;
}

}  // namespace sentencekv
