#include "tokenizer/sentencepiece_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "tests/tokenizer/tiny_vocabularies.h"
#include "tokenizer/protobuf_wire.h"
#include "tokenizer/vocabulary_tokenizer.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

SentencePieceModel TinyModel() {
  SentencePieceModel model;
  model.vocabulary = SentencePieceVocabulary({"_a", "b", "_"});
  return model;
}

TEST(SentencePieceModel, ReadsWhatItWrites) {
  SentencePieceModel model = TinyModel();
  model.vocabulary.add_space_prefix = false;

  auto read = ParseSentencePieceModel(SerializeSentencePieceModel(model));

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->vocabulary.model, "llama");
  EXPECT_EQ(read->vocabulary.tokens, model.vocabulary.tokens);
  EXPECT_EQ(read->vocabulary.scores, model.vocabulary.scores);
  EXPECT_EQ(read->vocabulary.token_types, model.vocabulary.token_types);
  EXPECT_EQ(read->vocabulary.add_space_prefix, false);
  EXPECT_EQ(read->vocabulary.bos_id, 1);
  EXPECT_EQ(read->vocabulary.eos_id, 2);
  EXPECT_FALSE(read->is_unigram);
  EXPECT_FALSE(read->remove_extra_whitespaces);
}

TEST(SentencePieceModel, TakesTheDefaultsOfTheFormat) {
  ProtobufWriter piece;
  piece.Bytes(1, "a");
  ProtobufWriter proto;
  proto.Bytes(1, piece.message());

  auto read = ParseSentencePieceModel(proto.message());

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->is_unigram);
  EXPECT_TRUE(read->remove_extra_whitespaces);
  EXPECT_EQ(read->vocabulary.add_space_prefix, std::nullopt);
  EXPECT_EQ(read->vocabulary.token_types[0], kNormalToken);
  EXPECT_EQ(read->vocabulary.scores[0], 0);
  EXPECT_EQ(read->vocabulary.bos_id, std::nullopt);
  EXPECT_EQ(read->unknown_surface, " \u2047 ");
}

// A model whose message `number` has this field.
std::string ModelWith(uint32_t number, const ProtobufWriter& message) {
  ProtobufWriter piece;
  piece.Bytes(1, "a");
  ProtobufWriter proto;
  proto.Bytes(1, piece.message()).Bytes(number, message.message());
  return proto.message();
}

struct BadFile {
  std::string bytes;
  std::string expected;
};

TEST(SentencePieceModel, RefusesFilesByFieldAndValue) {
  const BadFile cases[] = {
      {"", "tokenizer.model has no pieces"},
      {"{\"json\": 1}", "tokenizer.model is broken"},
      {ModelWith(1, ProtobufWriter().Varint(3, 9)),
       "pieces[1].type is not supported: 9"},
      {ModelWith(2, ProtobufWriter().Varint(3, 3)),
       "trainer_spec.model_type is not supported: 3"},
      {ModelWith(2, ProtobufWriter().Varint(24, 1)),
       "treat_whitespace_as_suffix is not supported: 1"},
      {ModelWith(2, ProtobufWriter().Bytes(44, std::string(65, 'x'))),
       "unk_surface of that many bytes is not supported: 65"},
      {ModelWith(3, ProtobufWriter().Bytes(2, "map")),
       "normalizer_spec.precompiled_charsmap of that many bytes is not "
       "supported: 3"},
      {ModelWith(3, ProtobufWriter().Varint(5, 0)),
       "escape_whitespaces is not supported: 0"},
      {ModelWith(5, ProtobufWriter().Bytes(2, "map")),
       "denormalizer_spec.precompiled_charsmap"},
  };
  for (const BadFile& c : cases) {
    auto read = ParseSentencePieceModel(c.bytes);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(c.expected));
  }
}

TEST(SentencePieceModel, SurvivesCutsAndFlips) {
  const std::string bytes = SerializeSentencePieceModel(TinyModel());
  for (size_t size = 0; size < bytes.size(); ++size) {
    (void)ParseSentencePieceModel(std::string_view(bytes).substr(0, size));
  }
  std::mt19937 random(29);
  for (int round = 0; round < 3000; ++round) {
    std::string flipped = bytes;
    for (int flip = 0; flip < 3; ++flip) {
      flipped[random() % flipped.size()] = static_cast<char>(random());
    }
    (void)ParseSentencePieceModel(flipped);
  }
}

struct BadModel {
  std::string expected;
  std::function<void(Vocabulary&)> spoil;
};

TEST(SentencePieceModel, RefusesWhatTheLibraryCouldNotRun) {
  const BadModel cases[] = {
      {"needs scores", [](Vocabulary& v) { v.scores.clear(); }},
      {"scores[4] is not a finite number: nan",
       [](Vocabulary& v) {
         v.scores[4] = std::numeric_limits<float>::quiet_NaN();
       }},
      {"scores[4] is not a finite number: -inf",
       [](Vocabulary& v) {
         v.scores[4] = -std::numeric_limits<float>::infinity();
       }},
      {"tokens[260] has a zero byte",
       [](Vocabulary& v) { v.tokens[260] = std::string("a\0b", 3); }},
      {"tokens[260] is not UTF-8: 'a\\xc3'",
       [](Vocabulary& v) { v.tokens[260] = "a\xC3"; }},
      {"tokens[13] is a byte but not written <0xNN>: '<0x0a>'",
       [](Vocabulary& v) { v.tokens[13] = "<0x0a>"; }},
      {"0 or 256 tokens must be bytes: 255",
       [](Vocabulary& v) { v.token_types[13] = kUnusedToken; }},
      {"one token must be the unknown one: 0",
       [](Vocabulary& v) { v.token_types[0] = kControlToken; }},
      {"one token must be the unknown one: 2",
       [](Vocabulary& v) { v.token_types[1] = kUnknownToken; }},
  };
  for (const BadModel& c : cases) {
    SentencePieceModel model = TinyModel();
    ASSERT_TRUE(CheckSentencePieceModel(model).ok());
    c.spoil(model.vocabulary);
    absl::Status status = CheckSentencePieceModel(model);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.expected));
  }
}

}  // namespace
}  // namespace sentencekv
