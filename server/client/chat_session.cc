#include "server/client/chat_session.h"

#include <istream>
#include <ostream>
#include <utility>

#include "server/client/answer.h"

namespace sentencekv {
namespace {

constexpr char kHelp[] =
    "/help         this list\n"
    "/reset        forget the conversation\n"
    "/system TEXT  set the system message and forget the conversation;\n"
    "              without TEXT: none\n"
    "/quit         end (or Ctrl-D)\n"
    "Ctrl-C ends an answer that is being written.\n";

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace

ChatSession::ChatSession(Session& session, v1::GenerateRequest request,
                         std::string system, bool stats)
    : session_(session),
      request_(std::move(request)),
      system_(std::move(system)),
      stats_(stats) {
  Reset();
}

void ChatSession::Reset() {
  request_.mutable_chat()->clear_messages();
  if (system_.empty()) return;
  v1::ChatMessage* message = request_.mutable_chat()->add_messages();
  message->set_role("system");
  message->set_content(system_);
}

void ChatSession::PrintPrompt() {
  if (session_.terminal.interactive) session_.terminal.out << "> ";
  session_.terminal.out << std::flush;
}

ClientExitCode ChatSession::Run() {
  Terminal& terminal = session_.terminal;
  // At the prompt Ctrl-C drops nothing but says how to end.
  const Interrupt::Scope at_prompt(session_.interrupt, [&] {
    terminal.out << "\n(/quit or Ctrl-D ends)\n";
    PrintPrompt();
  });
  if (terminal.interactive) terminal.out << "/help lists what there is.\n";
  std::string line;
  for (PrintPrompt(); std::getline(terminal.in, line); PrintPrompt()) {
    const std::string_view text = Trim(line);
    if (text.empty()) continue;
    if (text.front() == '/') {
      if (RunCommand(text) == Next::kQuit) return ClientExitCode::kOk;
      continue;
    }
    const ClientExitCode code = Say(text);
    if (code != ClientExitCode::kOk && !terminal.interactive) return code;
  }
  if (terminal.interactive) terminal.out << std::endl;
  return ClientExitCode::kOk;
}

ChatSession::Next ChatSession::RunCommand(std::string_view line) {
  std::ostream& out = session_.terminal.out;
  const size_t space = line.find_first_of(" \t");
  const std::string_view name = line.substr(0, space);
  const std::string_view argument = space == std::string_view::npos
                                        ? std::string_view()
                                        : Trim(line.substr(space));
  if (name == "/quit" || name == "/exit") return Next::kQuit;
  if (name == "/help") {
    out << kHelp;
  } else if (name == "/reset") {
    Reset();
    out << "(a new conversation)\n";
  } else if (name == "/system") {
    system_ = argument;
    Reset();
    out << "(a new conversation)\n";
  } else {
    out << "(no such command: " << name << "; /help lists them)\n";
  }
  return Next::kGoOn;
}

ClientExitCode ChatSession::Say(std::string_view text) {
  Terminal& terminal = session_.terminal;
  v1::ChatInput& chat = *request_.mutable_chat();
  v1::ChatMessage* user = chat.add_messages();
  user->set_role("user");
  user->set_content(std::string(text));

  const auto context = session_.server.NewContext();
  bool interrupted = false;
  Answer answer;
  {
    const Interrupt::Scope on_interrupt(session_.interrupt, [&] {
      interrupted = true;
      context->TryCancel();
    });
    answer = ReadAnswer(session_.server.stub(), *context, request_,
                        [&](std::string_view increment) {
                          terminal.out << increment << std::flush;
                        });
  }
  if (!answer.text.empty()) terminal.out << std::endl;
  const bool was_cancelled =
      interrupted && answer.status.error_code() == grpc::StatusCode::CANCELLED;
  if (was_cancelled) terminal.out << "(cancelled)" << std::endl;
  if (!answer.status.ok() && !was_cancelled) {
    chat.mutable_messages()->RemoveLast();
    return Fail(terminal, answer.status);
  }
  if (stats_) terminal.err << AnswerSummary(answer) << std::endl;
  v1::ChatMessage* assistant = chat.add_messages();
  assistant->set_role("assistant");
  assistant->set_content(answer.text);
  return ClientExitCode::kOk;
}

}  // namespace sentencekv
