#include "server/client/prompt_flags.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>

#include "CLI/CLI.hpp"
#include "fmt/format.h"
#include "kernels/status_macros.h"
#include "nlohmann/json.hpp"

namespace sentencekv {
namespace {

constexpr char kGroup[] = "Prompt";

void AddMessage(std::string role, std::string content, v1::ChatInput* chat) {
  v1::ChatMessage* message = chat->add_messages();
  message->set_role(std::move(role));
  message->set_content(std::move(content));
}

// [{"role": "user", "content": "..."}, ...]
absl::Status ParseMessages(const std::string& text, v1::ChatInput* chat) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array()) {
    return absl::InvalidArgumentError("--messages: not a JSON array");
  }
  for (const auto& message : json) {
    const bool is_message = message.is_object() && message.contains("role") &&
                            message.contains("content") &&
                            message["role"].is_string() &&
                            message["content"].is_string();
    if (!is_message) {
      return absl::InvalidArgumentError(
          "--messages: each must be {\"role\": TEXT, \"content\": TEXT}");
    }
    AddMessage(message["role"], message["content"], chat);
  }
  return absl::OkStatus();
}

// Whichever of --prompt and --prompt-file was given.
absl::StatusOr<std::string> PromptText(const PromptFlags& flags,
                                       std::istream& in) {
  if (flags.prompt_file.has_value()) return ReadFile(*flags.prompt_file, in);
  return flags.prompt.value_or("");
}

absl::Status CheckCombination(const PromptFlags& flags) {
  const int inputs = flags.prompt.has_value() + flags.prompt_file.has_value() +
                     flags.prompt_ids.has_value() + flags.messages.has_value();
  if (inputs != 1) {
    return absl::InvalidArgumentError(
        "give one of --prompt, --prompt-file, --messages and --prompt-ids");
  }
  const bool chat = flags.chat || flags.messages.has_value();
  if (chat && flags.prompt_ids.has_value()) {
    return absl::InvalidArgumentError("--chat takes text, not --prompt-ids");
  }
  if (!chat && (flags.system.has_value() || flags.assistant_prefix.has_value()))
    return absl::InvalidArgumentError(
        "--system and --assistant-prefix need --chat");
  return absl::OkStatus();
}

absl::Status FillChat(const PromptFlags& flags, std::istream& in,
                      v1::ChatInput* chat) {
  if (flags.system.has_value()) AddMessage("system", *flags.system, chat);
  if (flags.assistant_prefix.has_value()) {
    chat->set_assistant_prefix(*flags.assistant_prefix);
  }
  if (flags.messages.has_value()) {
    SKV_ASSIGN_OR_RETURN(const std::string text, ReadFile(*flags.messages, in));
    return ParseMessages(text, chat);
  }
  SKV_ASSIGN_OR_RETURN(std::string text, PromptText(flags, in));
  AddMessage("user", std::move(text), chat);
  return absl::OkStatus();
}

// What GenerateRequest and TokenizeRequest have in common.
template <typename Request>
absl::Status FillText(const PromptFlags& flags, std::istream& in,
                      Request* request) {
  if (flags.parse_special) request->set_parse_special(true);
  if (flags.no_bos) request->set_add_bos(false);
  if (flags.chat || flags.messages.has_value()) {
    return FillChat(flags, in, request->mutable_chat());
  }
  SKV_ASSIGN_OR_RETURN(std::string text, PromptText(flags, in));
  request->set_text(std::move(text));
  return absl::OkStatus();
}

}  // namespace

void PromptFlags::AddTo(CLI::App& app, bool with_ids) {
  app.add_option("--prompt", prompt, "The prompt")->group(kGroup);
  app.add_option("--prompt-file", prompt_file,
                 "File with the prompt; -: standard input")
      ->group(kGroup);
  if (with_ids) {
    app.add_option("--prompt-ids", prompt_ids, "The prompt as token ids: 1,2,3")
        ->group(kGroup);
  }
  app.add_flag("--chat", chat,
               "The prompt is a user's message, in the model's chat format")
      ->group(kGroup);
  app.add_option("--messages", messages,
                 "JSON file with chat messages; -: standard input")
      ->group(kGroup);
  app.add_option("--system", system, "System message before the chat")
      ->group(kGroup);
  app.add_option("--assistant-prefix", assistant_prefix,
                 "What the answer in a chat begins with")
      ->group(kGroup);
  app.add_flag("--parse-special", parse_special,
               "Control tokens written in the text are control tokens")
      ->group(kGroup);
  app.add_flag("--no-bos", no_bos, "Do not begin with BOS")->group(kGroup);
}

absl::Status PromptFlags::Fill(std::istream& in,
                               v1::GenerateRequest* request) const {
  SKV_RETURN_IF_ERROR(CheckCombination(*this));
  if (prompt_ids.has_value()) {
    return ParseTokenIds(*prompt_ids,
                         request->mutable_token_ids()->mutable_ids());
  }
  return FillText(*this, in, request);
}

absl::Status PromptFlags::Fill(std::istream& in,
                               v1::TokenizeRequest* request) const {
  SKV_RETURN_IF_ERROR(CheckCombination(*this));
  return FillText(*this, in, request);
}

absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     std::istream& in) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) {
      return absl::NotFoundError(fmt::format("cannot open file: {}", path));
    }
  }
  std::istream& source = path == "-" ? in : file;
  std::ostringstream text;
  // An empty source sets failbit of `text`, which is no error here.
  text << source.rdbuf();
  if (source.bad()) {
    return absl::DataLossError(fmt::format("cannot read file: {}", path));
  }
  return std::move(text).str();
}

absl::Status ParseTokenIds(std::string_view text,
                           google::protobuf::RepeatedField<int32_t>* ids) {
  constexpr std::string_view kSeparators = ", \n\t";
  size_t begin = text.find_first_not_of(kSeparators);
  while (begin != std::string_view::npos) {
    const size_t end =
        std::min(text.find_first_of(kSeparators, begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    int32_t id = 0;
    const auto [rest, error] =
        std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || rest != word.data() + word.size()) {
      return absl::InvalidArgumentError(
          fmt::format("not a token id: '{}'", word));
    }
    ids->Add(id);
    begin = text.find_first_not_of(kSeparators, end);
  }
  return absl::OkStatus();
}

}  // namespace sentencekv
