#include "tokenizer/vocabulary_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "kernels/check.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Control tokens that end a turn or a text in the chat models served here.
constexpr std::string_view kWellKnownStops[] = {
    "<|im_end|>",      "<|eot_id|>",    "<|eom_id|>",
    "<|end_of_text|>", "<|endoftext|>", "</s>"};

absl::Status CheckId(std::string_view field, int64_t id, size_t num_tokens) {
  if (id >= 0 && id < static_cast<int64_t>(num_tokens)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("vocabulary: {} is not the id of one of the {} tokens: {}",
                  field, num_tokens, id));
}

absl::Status CheckIds(const Vocabulary& vocabulary) {
  const size_t count = vocabulary.tokens.size();
  const std::pair<std::string_view, std::optional<int32_t>> fields[] = {
      {"bos_id", vocabulary.bos_id},
      {"eos_id", vocabulary.eos_id},
      {"eot_id", vocabulary.eot_id},
      {"unknown_id", vocabulary.unknown_id}};
  for (const auto& [name, id] : fields) {
    if (id.has_value()) SKV_RETURN_IF_ERROR(CheckId(name, *id, count));
  }
  for (int32_t id : vocabulary.stop_ids) {
    SKV_RETURN_IF_ERROR(CheckId("stop_ids", id, count));
  }
  if (vocabulary.add_bos.value_or(false) && !vocabulary.bos_id.has_value()) {
    return absl::InvalidArgumentError(
        "vocabulary: add_bos is true but there is no bos_id");
  }
  return absl::OkStatus();
}

absl::Status CheckToken(const Vocabulary& vocabulary, size_t id) {
  const size_t size = vocabulary.tokens[id].size();
  const int32_t type = TypeOf(vocabulary, id);
  if (type < kNormalToken || type > kByteToken) {
    return absl::InvalidArgumentError(
        fmt::format("vocabulary: token_types[{}] is not 1 to 6: {}", id, type));
  }
  const bool is_literal = type == kControlToken || type == kUserDefinedToken;
  const size_t limit = is_literal ? kMaxLiteralBytes : kMaxTokenBytes;
  if (size == 0 || size > limit) {
    return absl::InvalidArgumentError(fmt::format(
        "vocabulary: tokens[{}] must have 1 to {} bytes: {}", id, limit, size));
  }
  return absl::OkStatus();
}

}  // namespace

int32_t TypeOf(const Vocabulary& vocabulary, size_t id) {
  return vocabulary.token_types.empty() ? kNormalToken
                                        : vocabulary.token_types[id];
}

absl::Status CheckVocabulary(const Vocabulary& vocabulary) {
  const size_t count = vocabulary.tokens.size();
  if (count == 0 || count > kMaxTokens) {
    return absl::InvalidArgumentError(fmt::format(
        "vocabulary: tokens must number 1 to {}: {}", kMaxTokens, count));
  }
  const std::pair<std::string_view, size_t> parallel[] = {
      {"token_types", vocabulary.token_types.size()},
      {"scores", vocabulary.scores.size()}};
  for (const auto& [name, size] : parallel) {
    if (size == 0 || size == count) continue;
    return absl::InvalidArgumentError(
        fmt::format("vocabulary: {} are not as many as the {} tokens: {}", name,
                    count, size));
  }
  absl::flat_hash_map<std::string_view, size_t> first_use;
  first_use.reserve(count);
  for (size_t id = 0; id < count; ++id) {
    SKV_RETURN_IF_ERROR(CheckToken(vocabulary, id));
    auto [use, is_new] = first_use.try_emplace(vocabulary.tokens[id], id);
    if (is_new) continue;
    return absl::InvalidArgumentError(
        fmt::format("vocabulary: tokens[{}] is the same as tokens[{}]: {}", id,
                    use->second, Quoted(vocabulary.tokens[id])));
  }
  return CheckIds(vocabulary);
}

VocabularyTokenizer::VocabularyTokenizer(const Vocabulary& vocabulary,
                                         std::vector<std::string> bytes,
                                         bool adds_bos)
    : bytes_(std::move(bytes)),
      is_control_(bytes_.size()),
      is_literal_(bytes_.size()),
      bos_id_(vocabulary.bos_id),
      adds_bos_(adds_bos && vocabulary.bos_id.has_value()) {
  SKV_CHECK(bytes_.size() == vocabulary.tokens.size());
  for (size_t id = 0; id < bytes_.size(); ++id) {
    if (TypeOf(vocabulary, id) != kControlToken) {
      is_literal_[id] = bytes_[id] == vocabulary.tokens[id];
      continue;
    }
    is_control_[id] = true;
    controls_.Add(bytes_[id], static_cast<int32_t>(id));
  }
  CollectStopIds(vocabulary);
}

void VocabularyTokenizer::CollectStopIds(const Vocabulary& vocabulary) {
  auto add = [this](std::optional<int32_t> id) {
    if (!id.has_value()) return;
    if (std::find(stop_ids_.begin(), stop_ids_.end(), *id) == stop_ids_.end()) {
      stop_ids_.push_back(*id);
    }
  };
  add(vocabulary.eos_id);
  add(vocabulary.eot_id);
  for (int32_t id : vocabulary.stop_ids) add(id);
  for (std::string_view text : kWellKnownStops) add(FindControl(text));
}

absl::StatusOr<std::vector<int32_t>> VocabularyTokenizer::Encode(
    std::string_view text, const EncodeOptions& options) const {
  TextPiece piece{text, options.parse_special};
  return EncodePieces({&piece, 1}, options.add_bos);
}

absl::StatusOr<std::vector<int32_t>> VocabularyTokenizer::EncodePieces(
    std::span<const TextPiece> pieces, bool add_bos) const {
  size_t size = 0;
  for (const TextPiece& piece : pieces) size += piece.text.size();
  if (size > kMaxTextBytes) {
    return absl::InvalidArgumentError(fmt::format(
        "text must have at most {} bytes: {}", kMaxTextBytes, size));
  }
  std::string storage;
  std::string_view whole;
  if (pieces.size() == 1) {
    whole = pieces[0].text;
  } else {
    storage.reserve(size);
    for (const TextPiece& piece : pieces) storage += piece.text;
    whole = storage;
  }

  std::vector<int32_t> ids;
  if (add_bos && adds_bos_) ids.push_back(*bos_id_);
  size_t plain_begin = 0;  // plain text from here on is not encoded yet
  auto encode_plain = [&](size_t end) {
    if (end == plain_begin) return absl::OkStatus();
    std::string_view plain = whole.substr(plain_begin, end - plain_begin);
    return EncodePlain(plain, plain_begin == 0, ids);
  };
  size_t piece_begin = 0;
  for (const TextPiece& piece : pieces) {
    const size_t piece_end = piece_begin + piece.text.size();
    while (piece.parse_special) {
      auto match = controls_.Find(whole.substr(0, piece_end), piece_begin);
      if (!match.has_value()) break;
      SKV_RETURN_IF_ERROR(encode_plain(match->begin));
      ids.push_back(match->id);
      plain_begin = piece_begin = match->end;
    }
    piece_begin = piece_end;
  }
  SKV_RETURN_IF_ERROR(encode_plain(whole.size()));
  return ids;
}

std::string VocabularyTokenizer::TokenBytes(int32_t id,
                                            bool render_special) const {
  if (id < 0 || id >= vocab_size()) return "";
  if (is_control_[id] && !render_special) return "";
  return bytes_[id];
}

int32_t VocabularyTokenizer::vocab_size() const {
  return static_cast<int32_t>(bytes_.size());
}

bool VocabularyTokenizer::is_control(int32_t id) const {
  return id >= 0 && id < vocab_size() && is_control_[id];
}

std::optional<int32_t> VocabularyTokenizer::FindControl(
    std::string_view text) const {
  auto match = controls_.MatchAt(text, 0);
  if (!match.has_value() || match->end != text.size()) return std::nullopt;
  return match->id;
}

std::optional<int32_t> VocabularyTokenizer::FindLiteral(
    std::string_view text) const {
  for (size_t id = 0; id < bytes_.size(); ++id) {
    if (is_literal_[id] && bytes_[id] == text) return static_cast<int32_t>(id);
  }
  return std::nullopt;
}

}  // namespace sentencekv
