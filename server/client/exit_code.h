// What the client tells a script: exit codes and error texts. Both are part of
// the interface (docs/client.md).
#pragma once

#include <string>
#include <string_view>

#include "grpcpp/support/status.h"
#include "server/status_names.h"

namespace sentencekv {

enum class ClientExitCode : int {
  kOk = 0,
  kFailed = 1,       // anything the others do not name
  kUsage = 2,        // wrong flags, unreadable file; nothing was sent
  kUnreachable = 3,  // no connection, or the server is shutting down
  kInvalid = 4,      // the request is wrong: repeating it changes nothing
  kRefused = 5,      // the server is full: repeating it later may succeed
  kCancelled = 6,    // cancelled, or past its deadline
};

ClientExitCode ExitCodeOf(const grpc::Status& status);

// "sentencekv: CODE: message", then a line "  FIELD: REASON" for each field
// violation and "  retry after N s" where the server said so (both from
// grpc-status-details-bin). Ends with a newline.
std::string ErrorText(const grpc::Status& status);

// The same shape for what never reached the server:
// "sentencekv: USAGE: message".
std::string UsageErrorText(std::string_view message);

}  // namespace sentencekv
