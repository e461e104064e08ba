// Chat formats: how a list of messages becomes one prompt.
//
// A checkpoint's template is a Jinja program. It is never run: the format is
// recognised by what the template contains, or named by --chat_format.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

enum class ChatFormat : uint8_t {
  kPlain,
  kChatMl,
  kLlama2,
  kLlama3,
  kZephyr,
  kMistral
};

std::string_view Name(ChatFormat format);
// "plain", "chatml", "llama2", "llama3", "zephyr", "mistral". kInvalidArgument
// lists the names.
absl::StatusOr<ChatFormat> ParseChatFormat(std::string_view name);

// A chat format, with what the checkpoint's template adds to it.
struct ChatStyle {
  ChatFormat format = ChatFormat::kPlain;
  // Put first when the first message is not from "system"; "" for none.
  std::string default_system;
  // Llama 3.1 and later: what every system message begins with; when not
  // empty there always is one.
  std::string system_preamble;
};

// Recognises the format of a Jinja chat template. kInvalidArgument, saying
// that --chat_format chooses one, when it is not recognised. An empty template
// is kPlain.
absl::StatusOr<ChatStyle> RecogniseChatTemplate(std::string_view chat_template);

struct ChatMessage {
  // "system", "user" or "assistant"; ChatML and Llama 3 have others too, e.g.
  // "tool".
  std::string role;
  std::string content;
};

// One stretch of a rendered prompt: control text of the format, or what a user
// wrote.
struct PromptPiece {
  std::string text;
  bool is_control = false;
};

// The rendered prompt in pieces; with `add_generation_prompt` the assistant's
// turn is opened at the end, and `assistant_prefix` (what the answer begins
// with) follows. kInvalidArgument for a role or an order of roles that the
// format does not have, and for a prefix without a turn to put it in.
//
// The texts are those of the templates that came with SmolLM2 (ChatML),
// Llama-2-chat, Llama-3-Instruct, Zephyr and, for Mistral, of version 1 of its
// own tokenizer. Plain joins the contents with line ends.
absl::StatusOr<std::vector<PromptPiece>> RenderChat(
    const ChatStyle& style, std::span<const ChatMessage> messages,
    bool add_generation_prompt, std::string_view assistant_prefix = "");

// RenderChat, then encoding: control tokens are recognised only in control
// pieces, and in user pieces too when `parse_special`. Adds BOS where the
// vocabulary asks for one and the format does not write it itself.
absl::StatusOr<std::vector<int32_t>> EncodeChat(
    const Tokenizer& tokenizer, const ChatStyle& style,
    std::span<const ChatMessage> messages, bool add_generation_prompt,
    std::string_view assistant_prefix = "", bool parse_special = false);

}  // namespace sentencekv
