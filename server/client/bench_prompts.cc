#include "server/client/bench_prompts.h"

namespace sentencekv {
namespace {

// Written for this project: plain prose with no word in every sentence.
constexpr char kText[] =
    "The harbour woke before the sun did. Fishing boats knocked softly "
    "against the pier, and somebody whistled a tune that nobody knew. By six "
    "the market was open: crates of apples, bread still warm, a row of clocks "
    "that all showed different times. An engineer counted the bridges from "
    "her window and found one more than yesterday. She wrote the number down, "
    "underlined it twice and went to look. The new bridge was narrow and made "
    "of glass; beneath it the water moved like slow ink. Children ran across "
    "without looking down. Their shadows did not follow. In the library an "
    "old map gave the answer, although it took three people and a lamp to "
    "read it. Bridges here, it said, are built by those who need them, and "
    "remain for as long as they are remembered. Outside it had begun to rain, "
    "first on the roofs and later everywhere else. ";

}  // namespace

grpc::Status BenchPrompts::Load(ServerConnection& server) {
  v1::TokenizeRequest request;
  request.set_text(kText);
  request.set_add_bos(false);
  v1::TokenizeResponse response;
  const auto context = server.NewContext();
  const grpc::Status status =
      server.stub().Tokenize(context.get(), request, &response);
  if (!status.ok()) return status;
  if (response.token_ids().empty()) {
    return grpc::Status(grpc::StatusCode::INTERNAL,
                        "the server found no token in the text");
  }
  text_.assign(response.token_ids().begin(), response.token_ids().end());
  return grpc::Status::OK;
}

std::vector<int32_t> BenchPrompts::Make(int64_t num_tokens,
                                        int64_t index) const {
  std::vector<int32_t> ids(num_tokens);
  const auto size = static_cast<int64_t>(text_.size());
  // A step that shares no factor with most sizes visits every beginning.
  const int64_t begin = index * 37 % size;
  for (int64_t i = 0; i < num_tokens; ++i) ids[i] = text_[(begin + i) % size];
  return ids;
}

}  // namespace sentencekv
