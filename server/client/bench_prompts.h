// Prompts for measuring: English text of an exact length in tokens, each
// request's different from the others so that no prefix is shared.
#pragma once

#include <cstdint>
#include <vector>

#include "grpcpp/support/status.h"
#include "server/client/server_connection.h"

namespace sentencekv {

class BenchPrompts {
 public:
  // Asks the server for the tokens of the built-in text.
  grpc::Status Load(ServerConnection& server);

  // `num_tokens` ids of the text from a place that depends on `index`; the
  // text repeats. REQUIRES: Load succeeded.
  std::vector<int32_t> Make(int64_t num_tokens, int64_t index) const;

 private:
  std::vector<int32_t> text_;
};

}  // namespace sentencekv
