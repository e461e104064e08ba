// The flags that say what the model is given: text, token ids or chat.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "sentencekv/v1/sentencekv.pb.h"

namespace CLI {
class App;
}  // namespace CLI

namespace sentencekv {

struct PromptFlags {
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_file;  // "-": standard input
  std::optional<std::string> prompt_ids;   // "1,2,3"
  std::optional<std::string> messages;     // JSON file; "-": standard input
  bool chat = false;
  std::optional<std::string> system;
  std::optional<std::string> assistant_prefix;
  bool parse_special = false;
  bool no_bos = false;

  // --prompt-ids is offered where `with_ids`.
  void AddTo(CLI::App& app, bool with_ids);

  // Fills the input and its options. kInvalidArgument for flags that exclude
  // each other or that cannot be read, kNotFound for a missing file.
  absl::Status Fill(std::istream& in, v1::GenerateRequest* request) const;
  absl::Status Fill(std::istream& in, v1::TokenizeRequest* request) const;
};

// Whole contents of a file, or of `in` for "-". kNotFound when it cannot be
// opened, kDataLoss when reading fails.
absl::StatusOr<std::string> ReadFile(const std::string& path, std::istream& in);

// Comma- or space-separated integers. kInvalidArgument names the wrong one.
absl::Status ParseTokenIds(std::string_view text,
                           google::protobuf::RepeatedField<int32_t>* ids);

}  // namespace sentencekv
