// A conversation: its history, and the lines that a person types.
#pragma once

#include <string>
#include <string_view>

#include "server/client/command.h"
#include "server/client/request_flags.h"

namespace sentencekv {

// Not thread-safe. `session` must outlive it.
class ChatSession {
 public:
  // `request`: options of every answer; its input is ignored.
  ChatSession(Session& session, v1::GenerateRequest request, std::string system,
              bool stats);

  // Reads lines until the end of input or /quit; answers each. A person gets
  // an error printed and may go on; without one (piped input) the first error
  // ends the conversation.
  ClientExitCode Run();

 private:
  enum class Next { kGoOn, kQuit };

  // One line that begins with '/'.
  Next RunCommand(std::string_view line);
  // Sends the history and `text`, streams the answer and keeps both. What was
  // cancelled is kept as far as it came; what failed is not kept.
  ClientExitCode Say(std::string_view text);
  void Reset();
  void PrintPrompt();

  Session& session_;
  v1::GenerateRequest request_;  // its chat is the history
  std::string system_;
  const bool stats_;
};

}  // namespace sentencekv
