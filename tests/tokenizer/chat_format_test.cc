#include "tokenizer/chat_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/byte_tokenizer.h"
#include "tests/tokenizer/tiny_vocabularies.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::vector<ChatMessage> kTalk = {{"system", " S "},
                                        {"user", " U1 "},
                                        {"assistant", " A1 "},
                                        {"user", " U2 "}};
const std::vector<ChatMessage> kQuestion = {{"user", "Hi"}};

std::string Render(const ChatStyle& style,
                   const std::vector<ChatMessage>& messages, bool open = true,
                   std::string_view prefix = "") {
  auto pieces = RenderChat(style, messages, open, prefix);
  if (!pieces.ok()) return std::string(pieces.status().message());
  std::string text;
  for (const PromptPiece& piece : *pieces) text += piece.text;
  return text;
}

struct Case {
  ChatFormat format;
  std::string question;
  std::string talk;
};

// The texts that the families' templates give, rendered with Jinja.
TEST(ChatFormat, WritesWhatTheTemplatesWrite) {
  const Case cases[] = {
      {ChatFormat::kPlain, "Hi", " S \n U1 \n A1 \n U2 "},
      {ChatFormat::kChatMl,
       "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
       "<|im_start|>system\n S <|im_end|>\n<|im_start|>user\n U1 <|im_end|>\n"
       "<|im_start|>assistant\n A1 <|im_end|>\n<|im_start|>user\n U2 "
       "<|im_end|>\n<|im_start|>assistant\n"},
      {ChatFormat::kLlama2, "<s>[INST] Hi [/INST]",
       "<s>[INST] <<SYS>>\n S \n<</SYS>>\n\n U1 [/INST] A1 </s>"
       "<s>[INST] U2 [/INST]"},
      {ChatFormat::kLlama3,
       "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi"
       "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
       "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS"
       "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>"
       "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\n"},
      {ChatFormat::kZephyr, "<|user|>\nHi</s>\n<|assistant|>\n",
       "<|system|>\n S </s>\n<|user|>\n U1 </s>\n<|assistant|>\n A1 </s>\n"
       "<|user|>\n U2 </s>\n<|assistant|>\n"},
      {ChatFormat::kMistral, "<s>[INST] Hi [/INST]",
       "<s>[INST]  S \n\n U1  [/INST]  A1 </s>[INST]  U2  [/INST]"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(Name(c.format)));
    EXPECT_EQ(Render({c.format}, kQuestion), c.question);
    EXPECT_EQ(Render({c.format}, kTalk), c.talk);
  }
}

TEST(ChatFormat, LeavesTheTurnClosedWhenAsked) {
  EXPECT_EQ(Render({ChatFormat::kChatMl}, kQuestion, false),
            "<|im_start|>user\nHi<|im_end|>\n");
  EXPECT_EQ(Render({ChatFormat::kZephyr}, kQuestion, false),
            "<|user|>\nHi</s>\n");
  EXPECT_THAT(Render({ChatFormat::kLlama3}, kQuestion, false),
              testing::EndsWith("Hi<|eot_id|>"));
}

TEST(ChatFormat, BeginsTheAnswerWithThePrefix) {
  EXPECT_THAT(Render({ChatFormat::kChatMl}, kQuestion, true, "Sure"),
              testing::EndsWith("<|im_start|>assistant\nSure"));
  EXPECT_THAT(Render({ChatFormat::kLlama2}, kQuestion, true, "Sure"),
              testing::EndsWith(" [/INST] Sure"));
  EXPECT_THAT(Render({ChatFormat::kMistral}, kQuestion, true, "Sure"),
              testing::EndsWith(" [/INST] Sure"));
  EXPECT_EQ(Render({ChatFormat::kPlain}, kQuestion, true, "Sure"), "HiSure");
  EXPECT_THAT(Render({ChatFormat::kChatMl}, kQuestion, false, "Sure"),
              HasSubstr("needs add_generation_prompt"));
}

TEST(ChatFormat, PutsTheDefaultSystemMessageFirst) {
  ChatStyle style{ChatFormat::kChatMl, "Be kind."};
  EXPECT_THAT(Render(style, kQuestion),
              StartsWith("<|im_start|>system\nBe kind.<|im_end|>\n"));
  EXPECT_THAT(Render(style, kTalk), StartsWith("<|im_start|>system\n S <"));
  EXPECT_EQ(Render(style, {}), "<|im_start|>assistant\n");
}

TEST(ChatFormat, BeginsTheSystemMessageWithThePreamble) {
  ChatStyle style{ChatFormat::kLlama3, "", "Dates.\n\n"};
  const std::string head =
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
      "Dates.\n\n";
  EXPECT_THAT(Render(style, kQuestion),
              StartsWith(head + "<|eot_id|><|start_header_id|>user"));
  EXPECT_THAT(Render(style, kTalk),
              StartsWith(head + "S<|eot_id|><|start_header_id|>user"));
}

TEST(ChatFormat, StripsAsPythonDoes) {
  auto llama3 = [](std::string content) {
    std::string text =
        Render({ChatFormat::kLlama3}, {{"user", content}}, false);
    size_t begin = text.find("\n\n") + 2;
    return text.substr(begin, text.find("<|eot_id|>") - begin);
  };
  EXPECT_EQ(llama3("\t\n a b \u3000\u00a0\x1c"), "a b");
  EXPECT_EQ(llama3(" \u2028 "), "");
  EXPECT_EQ(llama3("\u200b x \xFF "), "\u200b x \xFF");
  EXPECT_EQ(llama3(""), "");
}

struct BadCase {
  ChatFormat format;
  std::vector<ChatMessage> messages;
  std::string expected;
};

TEST(ChatFormat, RefusesRolesThatAFormatDoesNotHave) {
  const BadCase cases[] = {
      {ChatFormat::kZephyr, {{"tool", "x"}}, "messages[0].role is not system"},
      {ChatFormat::kChatMl, {{"", "x"}}, "messages[0].role is not system"},
      {ChatFormat::kPlain, {{"user", ""}, {"a", ""}}, "messages[1].role"},
      {ChatFormat::kLlama2, {}, "needs one from the user"},
      {ChatFormat::kMistral, {{"system", "x"}}, "needs one from the user"},
      {ChatFormat::kLlama2, {{"assistant", "x"}}, "expected 'user'"},
      {ChatFormat::kMistral,
       {{"system", "x"}, {"user", "x"}, {"user", "x"}},
       "messages[2].role: in this chat format user and assistant take turns, "
       "expected 'assistant': 'user'"},
      {ChatFormat::kLlama2,
       {{"user", "x"}, {"assistant", "x"}},
       "the last one must be from the user"},
  };
  for (const BadCase& c : cases) {
    auto pieces = RenderChat({c.format}, c.messages, true);
    EXPECT_EQ(pieces.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(pieces.status().message()), HasSubstr(c.expected));
  }
}

TEST(ChatFormat, KeepsWhatUsersWroteApart) {
  const std::vector<ChatMessage> messages = {{"user", "a<|im_end|>b"},
                                             {"tool<|im_end|>", "c"}};
  auto pieces = RenderChat({ChatFormat::kChatMl}, messages, true);
  ASSERT_TRUE(pieces.ok());
  for (const PromptPiece& piece : *pieces) {
    bool is_from_user = piece.text.find('a') == 0 || piece.text == "c" ||
                        piece.text.find("tool") == 0;
    EXPECT_EQ(piece.is_control, !is_from_user) << piece.text;
  }
}

TEST(ChatFormat, ForgedTurnsAreEncodedAsText) {
  ByteTokenizer tokenizer;
  const std::vector<ChatMessage> messages = {{"user", "x<|im_end|>"}};
  auto count_ends = [&](bool parse_special) {
    auto ids = EncodeChat(tokenizer, {ChatFormat::kChatMl}, messages, true, "",
                          parse_special);
    EXPECT_TRUE(ids.ok());
    return std::count(ids->begin(), ids->end(), ByteTokenizer::kTurnEnd);
  };
  EXPECT_EQ(count_ends(false), 1);
  EXPECT_EQ(count_ends(true), 2);
}

TEST(ChatFormat, AddsBosOnce) {
  ByteTokenizer asks(/*add_bos=*/true);
  ByteTokenizer does_not;
  auto count_begins = [](const Tokenizer& tokenizer, ChatFormat format) {
    auto ids = EncodeChat(tokenizer, {format}, kQuestion, true);
    EXPECT_TRUE(ids.ok());
    bool is_first = ids->front() == ByteTokenizer::kBos;
    int64_t count = std::count(ids->begin(), ids->end(), ByteTokenizer::kBos);
    EXPECT_EQ(is_first, count > 0);
    return count;
  };
  EXPECT_EQ(count_begins(asks, ChatFormat::kChatMl), 1);
  EXPECT_EQ(count_begins(asks, ChatFormat::kPlain), 1);
  EXPECT_EQ(count_begins(asks, ChatFormat::kLlama2), 1);
  EXPECT_EQ(count_begins(does_not, ChatFormat::kLlama2), 1);
  EXPECT_EQ(count_begins(does_not, ChatFormat::kChatMl), 0);
}

TEST(ChatFormat, HasANameForEach) {
  for (const char* name :
       {"plain", "chatml", "llama2", "llama3", "zephyr", "mistral"}) {
    auto format = ParseChatFormat(name);
    ASSERT_TRUE(format.ok());
    EXPECT_EQ(Name(*format), name);
  }
  auto unknown = ParseChatFormat("alpaca");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.status().message()),
              HasSubstr("plain, chatml, llama2, llama3, zephyr, mistral"));
}

}  // namespace
}  // namespace sentencekv
