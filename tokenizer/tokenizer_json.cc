#include "tokenizer/tokenizer_json.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/json_access.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/strict_json.h"
#include "tokenizer/tokenizer_json_pipeline.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;

// Puts a token at its id. The vocabulary grows to hold it; ids that stay empty
// are found later.
absl::Status Place(const std::string& token, const Json& id,
                   std::string_view path, Vocabulary& vocabulary) {
  if (!id.is_number_integer() || id < 0 || id >= kMaxTokens) {
    return absl::InvalidArgumentError(fmt::format(
        "tokenizer.json: {} of {} is not an id from 0 to {}: {}", path,
        Quoted(token), kMaxTokens - 1, id.is_primitive() ? id.dump() : "..."));
  }
  const size_t index = id.get<size_t>();
  if (index >= vocabulary.tokens.size()) {
    vocabulary.tokens.resize(index + 1);
    vocabulary.token_types.resize(index + 1, kNormalToken);
  }
  std::string& place = vocabulary.tokens[index];
  if (!place.empty() && place != token) {
    return absl::InvalidArgumentError(
        fmt::format("tokenizer.json: {} gives {} the id of {}: {}", path,
                    Quoted(token), Quoted(place), index));
  }
  place = token;
  return absl::OkStatus();
}

absl::Status ReadVocab(const Json& model, Vocabulary& vocabulary) {
  const Json* vocab = FindMember(model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) {
    return absl::InvalidArgumentError(
        "tokenizer.json: model.vocab is not an object");
  }
  for (const auto& [token, id] : vocab->items()) {
    SKV_RETURN_IF_ERROR(Place(token, id, "model.vocab", vocabulary));
  }
  return absl::OkStatus();
}

// Merges are "left right" or ["left", "right"].
absl::Status ReadMerges(const Json& model, Vocabulary& vocabulary) {
  const Json* merges = FindMember(model, "merges");
  if (merges == nullptr || !merges->is_array()) {
    return absl::InvalidArgumentError(
        "tokenizer.json: model.merges is not an array");
  }
  for (const Json& merge : *merges) {
    if (merge.is_string()) {
      vocabulary.merges.push_back(merge.get<std::string>());
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      vocabulary.merges.push_back(merge[0].get<std::string>() + " " +
                                  merge[1].get<std::string>());
    } else {
      return absl::InvalidArgumentError(
          fmt::format("tokenizer.json: model.merges[{}] is not two tokens",
                      vocabulary.merges.size()));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadAddedToken(const Json& added, const std::string& path,
                            Vocabulary& vocabulary) {
  const std::string content = StringMember(added, "content");
  const Json* id = FindMember(added, "id");
  if (content.empty() || id == nullptr) {
    return absl::InvalidArgumentError(
        fmt::format("tokenizer.json: {} has no content or no id", path));
  }
  for (const char* key : {"single_word", "lstrip", "rstrip"}) {
    SKV_ASSIGN_OR_RETURN(bool flag, FlagMember(added, key, false, path));
    if (flag) {
      return UnsupportedValue(fmt::format("tokenizer.json: {}.{}", path, key),
                              true);
    }
  }
  SKV_RETURN_IF_ERROR(Place(content, *id, path, vocabulary));
  SKV_ASSIGN_OR_RETURN(bool special, FlagMember(added, "special", false, path));
  vocabulary.token_types[id->get<size_t>()] =
      special ? kControlToken : kUserDefinedToken;
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const Json& root, Vocabulary& vocabulary) {
  const Json* added = FindMember(root, "added_tokens");
  if (added == nullptr) return absl::OkStatus();
  if (!added->is_array()) {
    return absl::InvalidArgumentError(
        "tokenizer.json: added_tokens is not an array");
  }
  for (size_t i = 0; i < added->size(); ++i) {
    SKV_RETURN_IF_ERROR(ReadAddedToken(
        (*added)[i], fmt::format("added_tokens[{}]", i), vocabulary));
  }
  return absl::OkStatus();
}

// Every id must have its token.
absl::Status FindHoles(const Vocabulary& vocabulary) {
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!vocabulary.tokens[id].empty()) continue;
    return absl::InvalidArgumentError(
        fmt::format("tokenizer.json: no token has the id {}", id));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<int32_t>> FindToken(const Vocabulary& vocabulary,
                                                 std::string_view path,
                                                 const std::string& token) {
  if (token.empty()) return std::nullopt;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.tokens[id] == token) return static_cast<int32_t>(id);
  }
  return absl::InvalidArgumentError(fmt::format(
      "tokenizer.json: {} is not a token: {}", path, Quoted(token)));
}

// Options of the model that change how it works.
absl::Status ReadModelOptions(const Json& model, TokenizerJson& result) {
  const std::string type = StringMember(model, "type");
  if (!type.empty() && type != "BPE") {
    return UnsupportedValue("tokenizer.json: model.type", type);
  }
  for (const char* key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json* value = FindMember(model, key);
    if (value == nullptr || *value == "" || *value == 0) continue;
    return UnsupportedValue(fmt::format("tokenizer.json: model.{}", key),
                            *value);
  }
  Vocabulary& vocabulary = result.vocabulary;
  constexpr std::string_view kPath = "tokenizer.json: model";
  SKV_ASSIGN_OR_RETURN(vocabulary.ignore_merges,
                       FlagMember(model, "ignore_merges", false, kPath));
  SKV_ASSIGN_OR_RETURN(vocabulary.unknown_id,
                       FindToken(vocabulary, "model.unk_token",
                                 StringMember(model, "unk_token")));
  SKV_ASSIGN_OR_RETURN(bool byte_fallback,
                       FlagMember(model, "byte_fallback", false, kPath));
  SKV_ASSIGN_OR_RETURN(bool fuse_unknown,
                       FlagMember(model, "fuse_unk", false, kPath));
  if (!result.characters.has_value()) {
    if (!byte_fallback) return absl::OkStatus();
    return UnsupportedValue(
        "tokenizer.json: model.byte_fallback of a byte-level model", true);
  }
  result.characters->byte_fallback = byte_fallback;
  result.characters->fuse_unknown = fuse_unknown;
  return absl::OkStatus();
}

// Gives the tokens "<0xNN>" the type of bytes.
void MarkBytes(Vocabulary& vocabulary) {
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.token_types[id] == kNormalToken &&
        IsByteName(vocabulary.tokens[id])) {
      vocabulary.token_types[id] = kByteToken;
    }
  }
}

}  // namespace

absl::StatusOr<TokenizerJson> ParseTokenizerJson(std::string_view text) {
  SKV_ASSIGN_OR_RETURN(const Json root,
                       ParseJsonObject(text, "tokenizer.json"));
  const Json* model = FindMember(root, "model");
  if (model == nullptr || !model->is_object()) {
    return absl::InvalidArgumentError("tokenizer.json: model is not an object");
  }
  TokenizerJson result;
  Vocabulary& vocabulary = result.vocabulary;
  SKV_ASSIGN_OR_RETURN(const TokenizerPipeline pipeline, ReadPipeline(root));
  vocabulary.model = "gpt2";
  vocabulary.pre = pipeline.pre;
  result.characters = pipeline.characters;

  SKV_RETURN_IF_ERROR(ReadVocab(*model, vocabulary));
  SKV_RETURN_IF_ERROR(ReadAddedTokens(root, vocabulary));
  SKV_RETURN_IF_ERROR(FindHoles(vocabulary));
  SKV_RETURN_IF_ERROR(ReadModelOptions(*model, result));
  SKV_RETURN_IF_ERROR(ReadMerges(*model, vocabulary));
  if (result.characters.has_value() && result.characters->byte_fallback) {
    MarkBytes(vocabulary);
  }
  SKV_ASSIGN_OR_RETURN(
      vocabulary.bos_id,
      FindToken(vocabulary, "post_processor's first token", pipeline.first));
  vocabulary.add_bos = vocabulary.bos_id.has_value();
  return result;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(
    const TokenizerJson& json) {
  if (!json.characters.has_value()) return BpeTokenizer::Make(json.vocabulary);
  return CharacterBpeTokenizer::Make(json.vocabulary, *json.characters);
}

}  // namespace sentencekv
