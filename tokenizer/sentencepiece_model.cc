#include "tokenizer/sentencepiece_model.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "tokenizer/protobuf_wire.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocabulary_tokenizer.h"

namespace sentencekv {
namespace {

// Field numbers of sentencepiece_model.proto.
enum ModelField : uint32_t {
  kPieces = 1,
  kTrainerSpec = 2,
  kNormalizerSpec = 3,
  kDenormalizerSpec = 5,
};
enum PieceField : uint32_t { kText = 1, kScore = 2, kType = 3 };
enum TrainerField : uint32_t {
  kModelType = 3,
  kWhitespaceAsSuffix = 24,
  kByteFallback = 35,
  kBosId = 41,
  kEosId = 42,
  kUnknownSurface = 44,
};
enum NormalizerField : uint32_t {
  kName = 1,
  kCharsMap = 2,
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5,
};
enum ModelType : uint64_t { kUnigram = 1, kBpe = 2 };

constexpr size_t kMaxSurfaceBytes = 64;

absl::Status Broken(std::string_view where) {
  return absl::InvalidArgumentError(
      fmt::format("tokenizer.model is broken in {}", where));
}

absl::Status Unsupported(std::string_view field, uint64_t value) {
  return absl::InvalidArgumentError(
      fmt::format("tokenizer.model: {} is not supported: {}", field, value));
}

absl::Status ReadPiece(std::string_view message, Vocabulary& vocabulary) {
  const size_t index = vocabulary.tokens.size();
  if (index == kMaxTokens) {
    return absl::InvalidArgumentError(
        fmt::format("tokenizer.model: more than {} pieces", kMaxTokens));
  }
  std::string_view text;
  float score = 0;
  uint64_t type = kNormalToken;
  ProtobufReader reader(message);
  for (ProtobufField field; reader.Next(&field);) {
    if (field.number == kText) text = field.bytes;
    if (field.number == kScore) score = field.AsFloat();
    if (field.number == kType) type = field.value;
  }
  if (reader.is_broken()) return Broken(fmt::format("pieces[{}]", index));
  if (type < kNormalToken || type > kByteToken) {
    return Unsupported(fmt::format("pieces[{}].type", index), type);
  }
  vocabulary.tokens.emplace_back(text);
  vocabulary.scores.push_back(score);
  vocabulary.token_types.push_back(static_cast<int32_t>(type));
  return absl::OkStatus();
}

struct SpecialIds {
  int64_t bos = 1;  // the defaults of the format; -1 for none
  int64_t eos = 2;
};

absl::Status ReadTrainerSpec(std::string_view message,
                             SentencePieceModel& model, SpecialIds& ids) {
  ProtobufReader reader(message);
  model.is_unigram = true;  // the default of the format
  for (ProtobufField field; reader.Next(&field);) {
    switch (field.number) {
      case kModelType:
        if (field.value != kUnigram && field.value != kBpe) {
          return Unsupported("trainer_spec.model_type", field.value);
        }
        model.is_unigram = field.value == kUnigram;
        break;
      case kWhitespaceAsSuffix:
        if (field.value == 0) break;
        return Unsupported("trainer_spec.treat_whitespace_as_suffix", 1);
      case kBosId:
        ids.bos = static_cast<int64_t>(field.value);
        break;
      case kEosId:
        ids.eos = static_cast<int64_t>(field.value);
        break;
      case kUnknownSurface:
        if (field.bytes.size() > kMaxSurfaceBytes) {
          return Unsupported("trainer_spec.unk_surface of that many bytes",
                             field.bytes.size());
        }
        model.unknown_surface = field.bytes;
        break;
      default:
        break;
    }
  }
  return reader.is_broken() ? Broken("trainer_spec") : absl::OkStatus();
}

absl::Status ReadNormalizerSpec(std::string_view message,
                                SentencePieceModel& model) {
  ProtobufReader reader(message);
  for (ProtobufField field; reader.Next(&field);) {
    switch (field.number) {
      case kCharsMap:
        if (field.bytes.empty()) break;
        return Unsupported(
            "normalizer_spec.precompiled_charsmap of that many bytes",
            field.bytes.size());
      case kAddDummyPrefix:
        model.vocabulary.add_space_prefix = field.value != 0;
        break;
      case kRemoveExtraWhitespaces:
        model.remove_extra_whitespaces = field.value != 0;
        break;
      case kEscapeWhitespaces:
        if (field.value != 0) break;
        return Unsupported("normalizer_spec.escape_whitespaces", 0);
      default:
        break;
    }
  }
  return reader.is_broken() ? Broken("normalizer_spec") : absl::OkStatus();
}

absl::Status RefuseCharsMap(std::string_view denormalizer) {
  ProtobufReader reader(denormalizer);
  for (ProtobufField field; reader.Next(&field);) {
    if (field.number != kCharsMap || field.bytes.empty()) continue;
    return Unsupported(
        "denormalizer_spec.precompiled_charsmap of that many bytes",
        field.bytes.size());
  }
  return reader.is_broken() ? Broken("denormalizer_spec") : absl::OkStatus();
}

// Where the pieces hold a control token at `id`, that id.
std::optional<int32_t> FindControlId(const Vocabulary& vocabulary, int64_t id) {
  if (id < 0 || id >= static_cast<int64_t>(vocabulary.tokens.size()) ||
      TypeOf(vocabulary, static_cast<size_t>(id)) != kControlToken) {
    return std::nullopt;
  }
  return static_cast<int32_t>(id);
}

}  // namespace

bool IsByteName(std::string_view token) {
  auto is_digit = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F');
  };
  return token.size() == 6 && token.starts_with("<0x") && token[5] == '>' &&
         is_digit(token[3]) && is_digit(token[4]);
}

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(
    std::string_view bytes) {
  SentencePieceModel model;
  model.vocabulary.model = "llama";
  model.is_unigram = true;                // the defaults of the format, where
  model.remove_extra_whitespaces = true;  // the specifications are left out
  SpecialIds ids;
  ProtobufReader reader(bytes);
  for (ProtobufField field; reader.Next(&field);) {
    if (field.type != ProtobufField::Type::kBytes) continue;
    switch (field.number) {
      case kPieces:
        SKV_RETURN_IF_ERROR(ReadPiece(field.bytes, model.vocabulary));
        break;
      case kTrainerSpec:
        SKV_RETURN_IF_ERROR(ReadTrainerSpec(field.bytes, model, ids));
        break;
      case kNormalizerSpec:
        SKV_RETURN_IF_ERROR(ReadNormalizerSpec(field.bytes, model));
        break;
      case kDenormalizerSpec:
        SKV_RETURN_IF_ERROR(RefuseCharsMap(field.bytes));
        break;
      default:
        break;
    }
  }
  if (reader.is_broken()) return Broken("its fields");
  if (model.vocabulary.tokens.empty()) {
    return absl::InvalidArgumentError("tokenizer.model has no pieces");
  }
  model.vocabulary.bos_id = FindControlId(model.vocabulary, ids.bos);
  model.vocabulary.eos_id = FindControlId(model.vocabulary, ids.eos);
  return model;
}

absl::Status CheckSentencePieceModel(const SentencePieceModel& model) {
  const Vocabulary& vocabulary = model.vocabulary;
  if (vocabulary.scores.empty()) {
    return absl::InvalidArgumentError(
        "vocabulary: a llama vocabulary needs scores");
  }
  size_t num_bytes = 0;
  size_t num_unknown = 0;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& token = vocabulary.tokens[id];
    const int32_t type = TypeOf(vocabulary, id);
    if (!std::isfinite(vocabulary.scores[id])) {
      return absl::InvalidArgumentError(
          fmt::format("vocabulary: scores[{}] is not a finite number: {}", id,
                      vocabulary.scores[id]));
    }
    if (token.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          fmt::format("vocabulary: tokens[{}] has a zero byte", id));
    }
    if (!IsValidUtf8(token)) {
      return absl::InvalidArgumentError(fmt::format(
          "vocabulary: tokens[{}] is not UTF-8: {}", id, Quoted(token)));
    }
    if (type == kByteToken && !IsByteName(token)) {
      return absl::InvalidArgumentError(fmt::format(
          "vocabulary: tokens[{}] is a byte but not written <0xNN>: {}", id,
          Quoted(token)));
    }
    num_bytes += type == kByteToken;
    num_unknown += type == kUnknownToken;
  }
  if (num_bytes != 0 && num_bytes != 256) {
    return absl::InvalidArgumentError(fmt::format(
        "vocabulary: 0 or 256 tokens must be bytes: {}", num_bytes));
  }
  if (num_unknown != 1) {
    return absl::InvalidArgumentError(fmt::format(
        "vocabulary: one token must be the unknown one: {}", num_unknown));
  }
  return absl::OkStatus();
}

std::string SerializeSentencePieceModel(const SentencePieceModel& model) {
  const Vocabulary& vocabulary = model.vocabulary;
  ProtobufWriter proto;
  bool has_bytes = false;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const int32_t type = TypeOf(vocabulary, id);
    has_bytes = has_bytes || type == kByteToken;
    ProtobufWriter piece;
    piece.Bytes(kText, vocabulary.tokens[id]);
    piece.Float(kScore, vocabulary.scores[id]);
    piece.Varint(kType, static_cast<uint64_t>(type));
    proto.Bytes(kPieces, piece.message());
  }
  ProtobufWriter trainer;
  trainer.Varint(kModelType, model.is_unigram ? kUnigram : kBpe);
  trainer.Varint(kByteFallback, has_bytes);
  proto.Bytes(kTrainerSpec, trainer.message());
  ProtobufWriter normalizer;
  normalizer.Bytes(kName, "identity");
  normalizer.Varint(kAddDummyPrefix,
                    vocabulary.add_space_prefix.value_or(true));
  normalizer.Varint(kRemoveExtraWhitespaces, model.remove_extra_whitespaces);
  normalizer.Varint(kEscapeWhitespaces, 1);
  proto.Bytes(kNormalizerSpec, normalizer.message());
  return proto.message();
}

}  // namespace sentencekv
