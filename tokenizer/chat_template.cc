// Recognising the format of a Jinja chat template by what it contains.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "tokenizer/chat_format.h"

namespace sentencekv {
namespace {

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The value of a Jinja string literal's inside.
std::string Unescape(std::string_view literal) {
  std::string text;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      text.push_back(literal[i]);
      continue;
    }
    char escaped = literal[++i];
    text.push_back(escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped);
  }
  return text;
}

// Whether `text` goes on to its end as literal text of the template: no
// unescaped `quote`, and no Jinja where there is no quote.
bool IsLiteral(std::string_view text, char quote) {
  if (quote == '\0') return !Contains(text, "{{") && !Contains(text, "{%");
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      return false;
    }
  }
  return true;
}

// A system message that a ChatML template holds in full; "" when none.
std::string FindDefaultSystem(std::string_view source) {
  constexpr std::string_view kOpen = "<|im_start|>system";
  constexpr std::string_view kClose = "<|im_end|>";
  for (size_t at = source.find(kOpen); at != std::string_view::npos;
       at = source.find(kOpen, at + 1)) {
    std::string_view rest = source.substr(at + kOpen.size());
    if (rest.starts_with("\\n")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with('\n')) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    size_t end = rest.find(kClose);
    if (end == std::string_view::npos) return "";
    std::string_view text = rest.substr(0, end);
    char before = at > 0 ? source[at - 1] : '\0';
    char quote = before == '\'' || before == '"' ? before : '\0';
    if (text.empty() || !IsLiteral(text, quote)) continue;
    return quote == '\0' ? std::string(text) : Unescape(text);
  }
  return "";
}

// Llama 3.1 and 3.2 begin the system message with two dates. The second is the
// one that the template falls back to: prompts must not change overnight.
std::string FindPreamble(std::string_view source) {
  constexpr std::string_view kKnowledge = "Cutting Knowledge Date: ";
  constexpr std::string_view kToday = "date_string = \"";
  size_t knowledge = source.find(kKnowledge);
  size_t today = source.find(kToday);
  if (knowledge == std::string_view::npos || today == std::string_view::npos) {
    return "";
  }
  std::string_view date = source.substr(knowledge + kKnowledge.size());
  std::string_view fallback = source.substr(today + kToday.size());
  return fmt::format("{}{}\nToday Date: {}\n\n", kKnowledge,
                     date.substr(0, date.find_first_of("\\\"'\n")),
                     fallback.substr(0, fallback.find('"')));
}

}  // namespace

absl::StatusOr<ChatStyle> RecogniseChatTemplate(
    std::string_view chat_template) {
  const std::string_view source = chat_template;
  auto has = [source](std::string_view part) { return Contains(source, part); };
  ChatStyle style;
  if (source.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    style.format = ChatFormat::kPlain;
  } else if (has("<|im_start|>") && has("<|im_end|>")) {
    style.format = ChatFormat::kChatMl;
    style.default_system = FindDefaultSystem(source);
  } else if (has("<|start_header_id|>") && has("<|end_header_id|>") &&
             has("<|eot_id|>")) {
    style.format = ChatFormat::kLlama3;
    style.system_preamble = FindPreamble(source);
  } else if (has("[INST]") && has("<<SYS>>")) {
    style.format = ChatFormat::kLlama2;
  } else if (has("[INST] ") && has(" [/INST]")) {
    style.format = ChatFormat::kMistral;
  } else if (has("<|user|>") && has("<|assistant|>") && !has("<|end|>") &&
             (has("eos_token") || has("</s>"))) {
    style.format = ChatFormat::kZephyr;
  } else {
    constexpr ChatFormat kLast = ChatFormat::kMistral;
    std::vector<std::string_view> names;
    for (int i = 0; i <= static_cast<int>(kLast); ++i) {
      names.push_back(Name(static_cast<ChatFormat>(i)));
    }
    return absl::InvalidArgumentError(fmt::format(
        "the checkpoint's chat template is not one of the known ones; choose "
        "the format with --chat_format ({})",
        fmt::join(names, ", ")));
  }
  return style;
}

}  // namespace sentencekv
