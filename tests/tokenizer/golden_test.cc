// Real vocabularies against ids that independent implementations gave:
// SmolLM2-135M-Instruct (byte-level BPE) and stories260k (SentencePiece).
// Where the model files are not here, the tests say so and are skipped.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/gguf_vocabulary.h"
#include "engine/mapped_file.h"
#include "tests/support/test_files.h"
#include "tests/tokenizer/tiny_vocabularies.h"
#include "tokenizer/chat_format.h"
#include "tokenizer/incremental_decoder.h"
#include "tokenizer/sentencepiece_tokenizer.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

Json ReadJson(const std::string& path) { return Json::parse(ReadFile(path)); }

struct SmolLm {
  std::unique_ptr<Tokenizer> tokenizer;
  ChatStyle style;
};

// Read once; null when the model file is not here.
const SmolLm* LoadSmolLm() {
  static const std::unique_ptr<SmolLm> loaded = [] {
    std::unique_ptr<SmolLm> made;
    auto path = SmolLmPath();
    if (!path.has_value()) return made;
    auto file = MappedFile::Open(*path);
    EXPECT_TRUE(file.ok()) << file.status();
    auto gguf = GgufFile::Parse(file->bytes());
    EXPECT_TRUE(gguf.ok()) << gguf.status();
    auto vocabulary = VocabularyFromGguf(*gguf, 49152);
    EXPECT_TRUE(vocabulary.ok()) << vocabulary.status();
    auto style = RecogniseChatTemplate(vocabulary->chat_template);
    EXPECT_TRUE(style.ok()) << style.status();
    auto tokenizer = MakeTokenizer(*std::move(vocabulary));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    made = std::make_unique<SmolLm>();
    made->tokenizer = *std::move(tokenizer);
    made->style = *std::move(style);
    return made;
  }();
  return loaded.get();
}

class SmolLmGolden : public testing::Test {
 protected:
  void SetUp() override {
    SKV_SKIP_WITHOUT(SmolLmPath(), "SmolLM2-135M-Instruct.Q4_1.gguf");
    tokenizer_ = LoadSmolLm()->tokenizer.get();
  }
  static Json Data(const std::string& name) {
    return ReadJson(SourceDir() + "/tests/data/" + name);
  }
  const Tokenizer* tokenizer_ = nullptr;
};

TEST_F(SmolLmGolden, EncodesAndDecodesEveryCase) {
  const Json data = Data("smollm2_tokenizer.json");
  ASSERT_EQ(data["cases"].size(), 133u);
  for (const Json& c : data["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const std::string text = c["text"];
    auto ids = tokenizer_->Encode(
        text, {.parse_special = c["parse_special"].get<bool>()});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, c["ids"].get<Ids>());
    const std::string decoded = tokenizer_->Decode(*ids, true);
    if (c["round_trip"]) {
      EXPECT_EQ(decoded, text);
    } else {
      std::string hex;
      for (char byte : decoded) {
        char digits[3];
        std::snprintf(digits, sizeof(digits), "%02x",
                      static_cast<uint8_t>(byte));
        hex += digits;
      }
      EXPECT_EQ(hex, c["decoded_hex"].get<std::string>());
    }
  }
}

TEST_F(SmolLmGolden, GivesTheBytesOfSingleTokens) {
  const Json data = Data("smollm2_tokenizer.json");
  for (const Json& piece : data["pieces"]) {
    std::string bytes;
    const std::string hex = piece[1];
    for (size_t i = 0; i < hex.size(); i += 2) {
      bytes.push_back(
          static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    EXPECT_EQ(tokenizer_->TokenBytes(piece[0], true), bytes);
  }
  for (int byte : data["dropped_bytes"]) {
    EXPECT_TRUE(tokenizer_->Encode(std::string(1, static_cast<char>(byte)), {})
                    ->empty());
  }
}

TEST_F(SmolLmGolden, StreamsEveryCaseInValidPieces) {
  const Json data = Data("smollm2_tokenizer.json");
  for (const Json& c : data["cases"]) {
    IncrementalDecoder decoder(*tokenizer_, /*render_special=*/true);
    std::string text;
    for (int32_t id : c["ids"].get<Ids>()) {
      std::string piece = decoder.Append(id);
      ASSERT_TRUE(IsValidUtf8(piece)) << c["name"];
      text += piece;
    }
    text += decoder.Finish();
    EXPECT_EQ(text, c["round_trip"] ? c["text"] : c["decoded"]) << c["name"];
  }
}

TEST_F(SmolLmGolden, RendersAndEncodesChats) {
  const Json data = Data("smollm2_chat.json");
  const ChatStyle& style = LoadSmolLm()->style;
  EXPECT_EQ(Name(style.format), "chatml");
  EXPECT_EQ(style.default_system, data["default_system"].get<std::string>());
  for (const Json& c : data["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    std::vector<ChatMessage> messages;
    for (const Json& message : c["messages"]) {
      messages.push_back({message["role"], message["content"]});
    }
    const bool open = c["add_generation_prompt"];
    auto pieces = RenderChat(style, messages, open);
    ASSERT_TRUE(pieces.ok()) << pieces.status();
    std::string text;
    for (const PromptPiece& piece : *pieces) text += piece.text;
    EXPECT_EQ(text, c["text"].get<std::string>());
    auto special = EncodeChat(*tokenizer_, style, messages, open, "", true);
    auto plain = EncodeChat(*tokenizer_, style, messages, open);
    ASSERT_TRUE(special.ok() && plain.ok());
    EXPECT_EQ(*special, c["ids"].get<Ids>());
    EXPECT_EQ(*plain, c.value("ids_contents_plain", c["ids"]).get<Ids>());
  }
}

TEST_F(SmolLmGolden, StopsAtTheEndOfTurnAndText) {
  EXPECT_EQ(Ids(tokenizer_->stop_ids().begin(), tokenizer_->stop_ids().end()),
            (Ids{2, 0}));
  EXPECT_TRUE(tokenizer_->Encode("", {})->empty());  // no BOS
}

TEST_F(SmolLmGolden, RoundTripsWhatHasTokens) {
  const Json data = Data("smollm2_tokenizer.json");
  std::string dropped;
  for (int byte : data["dropped_bytes"]) {
    dropped.push_back(static_cast<char>(byte));
  }
  std::mt19937 random(41);
  for (int round = 0; round < 500; ++round) {
    std::string text = RandomText(random, 60);
    std::string expected;
    for (char byte : text) {
      if (dropped.find(byte) == dropped.npos) expected.push_back(byte);
    }
    auto ids = tokenizer_->Encode(text, {.parse_special = true});
    ASSERT_TRUE(ids.ok());
    ASSERT_EQ(tokenizer_->Decode(*ids), expected);
  }
}

TEST(StoriesGolden, EncodesPromptsAndDecodesTexts) {
  auto folder = SharedPath("models/stories260k");
  auto golden = SharedPath("golden/stories260k-greedy.json");
  SKV_SKIP_WITHOUT(folder, "../shared/models/stories260k");
  SKV_SKIP_WITHOUT(golden, "../shared/golden/stories260k-greedy.json");
  auto model = ParseSentencePieceModel(ReadFile(*folder + "/tokenizer.model"));
  ASSERT_TRUE(model.ok()) << model.status();
  auto tokenizer = SentencePieceTokenizer::Make(*std::move(model));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 512);
  const Json data = ReadJson(*golden);
  for (const Json& c : data["cases"]) {
    auto ids = (*tokenizer)->Encode(c["prompt"].get<std::string>(), {});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, c["prompt_ids"].get<Ids>());
    Ids whole = *ids;
    for (int32_t id : c["generated_ids"]) whole.push_back(id);
    EXPECT_EQ((*tokenizer)->Decode(whole), c["text"].get<std::string>());
    IncrementalDecoder decoder(**tokenizer, false, /*at_text_start=*/true);
    std::string streamed;
    for (int32_t id : whole) streamed += decoder.Append(id);
    EXPECT_EQ(streamed + decoder.Finish(), c["text"].get<std::string>());
  }
}

}  // namespace
}  // namespace sentencekv
