#include "tokenizer/chat_format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

constexpr std::string_view kNames[] = {"plain",  "chatml", "llama2",
                                       "llama3", "zephyr", "mistral"};

// White space as Python's str.strip, which the templates call, sees it.
bool IsSpace(uint32_t code_point) {
  return (code_point >= 0x09 && code_point <= 0x0D) ||
         (code_point >= 0x1C && code_point <= 0x20) || code_point == 0x85 ||
         code_point == 0xA0 || code_point == 0x1680 ||
         (code_point >= 0x2000 && code_point <= 0x200A) ||
         code_point == 0x2028 || code_point == 0x2029 || code_point == 0x202F ||
         code_point == 0x205F || code_point == 0x3000;
}

std::string_view Strip(std::string_view text) {
  size_t begin = text.size();
  size_t end = 0;
  for (size_t i = 0; i < text.size();) {
    Utf8Step step = NextUtf8(text.substr(i));
    bool is_space = step.kind == Utf8Kind::kCodePoint &&
                    IsSpace(DecodeUtf8(text.substr(i, step.size)));
    if (!is_space) {
      begin = std::min(begin, i);
      end = i + step.size;
    }
    i += step.size;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

std::string_view StripEnd(std::string_view text) {
  std::string_view stripped = Strip(text);
  if (stripped.empty()) return stripped;
  return text.substr(0, stripped.data() + stripped.size() - text.data());
}

// Collects a prompt; neighbours of one kind become one piece.
class PromptWriter {
 public:
  PromptWriter& Control(std::string_view text) { return Add(text, true); }
  PromptWriter& Content(std::string_view text) { return Add(text, false); }
  std::vector<PromptPiece> Take() { return std::move(pieces_); }

 private:
  PromptWriter& Add(std::string_view text, bool is_control) {
    if (text.empty()) return *this;
    if (pieces_.empty() || pieces_.back().is_control != is_control) {
      pieces_.push_back({"", is_control});
    }
    pieces_.back().text += text;
    return *this;
  }
  std::vector<PromptPiece> pieces_;
};

using Messages = std::span<const ChatMessage>;

bool IsKnownRole(std::string_view role) {
  return role == "system" || role == "user" || role == "assistant";
}

// A role that is not one of ours came from a client, who may have written
// control tokens in it.
void WriteRole(std::string_view role, PromptWriter& writer) {
  if (IsKnownRole(role)) {
    writer.Control(role);
  } else {
    writer.Content(role);
  }
}

void WritePlain(Messages messages, PromptWriter& writer) {
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i > 0) writer.Control("\n");
    writer.Content(messages[i].content);
  }
}

void WriteChatMl(Messages messages, bool open_turn, PromptWriter& writer) {
  for (const ChatMessage& message : messages) {
    WriteRole(message.role, writer.Control("<|im_start|>"));
    writer.Control("\n");
    writer.Content(message.content).Control("<|im_end|>\n");
  }
  if (open_turn) writer.Control("<|im_start|>assistant\n");
}

void WriteZephyr(Messages messages, bool open_turn, PromptWriter& writer) {
  for (const ChatMessage& message : messages) {
    writer.Control("<|").Control(message.role).Control("|>\n");
    writer.Content(message.content).Control("</s>\n");
  }
  if (open_turn) writer.Control("<|assistant|>\n");
}

void WriteLlama3(Messages messages, const std::string& preamble, bool open_turn,
                 PromptWriter& writer) {
  auto begin_turn = [&writer](std::string_view role) {
    WriteRole(role, writer.Control("<|start_header_id|>"));
    writer.Control("<|end_header_id|>\n\n");
  };
  writer.Control("<|begin_of_text|>");
  const bool has_system = !messages.empty() && messages[0].role == "system";
  if (!preamble.empty()) {
    begin_turn("system");
    writer.Control(preamble);
    if (has_system) writer.Content(Strip(messages[0].content));
    writer.Control("<|eot_id|>");
    if (has_system) messages = messages.subspan(1);
  }
  for (const ChatMessage& message : messages) {
    begin_turn(message.role);
    writer.Content(Strip(message.content)).Control("<|eot_id|>");
  }
  if (open_turn) begin_turn("assistant");
}

// The formats whose turns are "[INST] question [/INST] answer": a system
// message belongs to the first question, then roles take turns.
absl::Status CheckTurns(Messages messages, bool open_turn) {
  const bool has_system = !messages.empty() && messages[0].role == "system";
  Messages turns = messages.subspan(has_system ? 1 : 0);
  if (turns.empty()) {
    return absl::InvalidArgumentError(
        "messages: this chat format needs one from the user");
  }
  for (size_t i = 0; i < turns.size(); ++i) {
    std::string_view expected = i % 2 == 0 ? "user" : "assistant";
    if (turns[i].role == expected) continue;
    return absl::InvalidArgumentError(fmt::format(
        "messages[{}].role: in this chat format user and assistant take turns, "
        "expected '{}': {}",
        i + has_system, expected, Quoted(turns[i].role, 64)));
  }
  if (open_turn && turns.size() % 2 == 0) {
    return absl::InvalidArgumentError(
        "messages: in this chat format the last one must be from the user");
  }
  return absl::OkStatus();
}

void WriteLlama2(Messages messages, PromptWriter& writer) {
  const ChatMessage* system = nullptr;
  if (messages[0].role == "system") {
    system = &messages[0];
    messages = messages.subspan(1);
  }
  for (const ChatMessage& message : messages) {
    if (message.role == "assistant") {
      writer.Control(" ").Content(Strip(message.content)).Control(" </s>");
      continue;
    }
    writer.Control("<s>[INST] ");
    if (std::exchange(system, nullptr) != nullptr) {
      // The template strips the system message and the question as one text.
      writer.Control("<<SYS>>\n").Content(messages.data()[-1].content);
      writer.Control("\n<</SYS>>");
      if (!Strip(message.content).empty()) {
        writer.Control("\n\n").Content(StripEnd(message.content));
      }
    } else {
      writer.Content(Strip(message.content));
    }
    writer.Control(" [/INST]");
  }
}

void WriteMistral(Messages messages, PromptWriter& writer) {
  const ChatMessage* system = nullptr;
  if (messages[0].role == "system") {
    system = &messages[0];
    messages = messages.subspan(1);
  }
  writer.Control("<s>");
  for (const ChatMessage& message : messages) {
    if (message.role == "assistant") {
      writer.Control(" ").Content(message.content).Control("</s>");
      continue;
    }
    writer.Control("[INST] ");
    if (system != nullptr) {
      writer.Content(system->content).Control("\n\n");
      system = nullptr;
    }
    writer.Content(message.content).Control(" [/INST]");
  }
}

// ChatML and Llama 3 write any role; the others have words for three.
absl::Status CheckRoles(Messages messages, ChatFormat format) {
  const bool is_open =
      format == ChatFormat::kChatMl || format == ChatFormat::kLlama3;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (IsKnownRole(role) || (is_open && !role.empty())) continue;
    return absl::InvalidArgumentError(
        fmt::format("messages[{}].role is not system, user or assistant: {}", i,
                    Quoted(role, 64)));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view Name(ChatFormat format) {
  return kNames[static_cast<size_t>(format)];
}

absl::StatusOr<ChatFormat> ParseChatFormat(std::string_view name) {
  auto found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found != std::end(kNames)) {
    return static_cast<ChatFormat>(found - std::begin(kNames));
  }
  return absl::InvalidArgumentError(
      fmt::format("chat format must be one of {}: {}", fmt::join(kNames, ", "),
                  Quoted(name)));
}

absl::StatusOr<std::vector<PromptPiece>> RenderChat(
    const ChatStyle& style, std::span<const ChatMessage> messages,
    bool add_generation_prompt, std::string_view assistant_prefix) {
  SKV_RETURN_IF_ERROR(CheckRoles(messages, style.format));
  if (!assistant_prefix.empty() && !add_generation_prompt) {
    return absl::InvalidArgumentError(
        "assistant_prefix needs add_generation_prompt");
  }
  std::vector<ChatMessage> with_system;
  if (!style.default_system.empty() && !messages.empty() &&
      messages[0].role != "system") {
    with_system.push_back({"system", style.default_system});
    with_system.insert(with_system.end(), messages.begin(), messages.end());
    messages = with_system;
  }
  PromptWriter writer;
  const bool is_bracketed = style.format == ChatFormat::kLlama2 ||
                            style.format == ChatFormat::kMistral;
  if (is_bracketed) {
    SKV_RETURN_IF_ERROR(CheckTurns(messages, add_generation_prompt));
  }
  switch (style.format) {
    case ChatFormat::kPlain:
      WritePlain(messages, writer);
      break;
    case ChatFormat::kChatMl:
      WriteChatMl(messages, add_generation_prompt, writer);
      break;
    case ChatFormat::kLlama2:
      WriteLlama2(messages, writer);
      break;
    case ChatFormat::kLlama3:
      WriteLlama3(messages, style.system_preamble, add_generation_prompt,
                  writer);
      break;
    case ChatFormat::kZephyr:
      WriteZephyr(messages, add_generation_prompt, writer);
      break;
    case ChatFormat::kMistral:
      WriteMistral(messages, writer);
      break;
  }
  if (!assistant_prefix.empty()) {
    // Answers of these formats begin after a space.
    if (is_bracketed) writer.Control(" ");
    writer.Content(assistant_prefix);
  }
  return writer.Take();
}

absl::StatusOr<std::vector<int32_t>> EncodeChat(
    const Tokenizer& tokenizer, const ChatStyle& style,
    std::span<const ChatMessage> messages, bool add_generation_prompt,
    std::string_view assistant_prefix, bool parse_special) {
  SKV_ASSIGN_OR_RETURN(
      auto prompt,
      RenderChat(style, messages, add_generation_prompt, assistant_prefix));
  std::vector<TextPiece> pieces;
  for (const PromptPiece& piece : prompt) {
    pieces.push_back({piece.text, piece.is_control || parse_special});
  }
  SKV_ASSIGN_OR_RETURN(auto ids,
                       tokenizer.EncodePieces(pieces, /*add_bos=*/false));
  // What an empty text becomes tells whether the vocabulary asks for a BOS.
  SKV_ASSIGN_OR_RETURN(auto begin, tokenizer.Encode("", {.add_bos = true}));
  const bool has_begin = ids.size() >= begin.size() &&
                         std::equal(begin.begin(), begin.end(), ids.begin());
  if (!has_begin) ids.insert(ids.begin(), begin.begin(), begin.end());
  return ids;
}

}  // namespace sentencekv
