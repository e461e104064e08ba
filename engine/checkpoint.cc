#include "engine/checkpoint.h"

#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "engine/safetensors.h"
#include "fmt/format.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

namespace fs = std::filesystem;

// A config.json of a real model has a few KiB.
constexpr size_t kMaxConfigBytes = 1 << 20;

absl::StatusOr<Checkpoint> OpenFolder(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  SKV_ASSIGN_OR_RETURN(
      checkpoint.config_json,
      ReadConfigJson((fs::path(path) / "config.json").string()));
  SKV_ASSIGN_OR_RETURN(SafetensorsCheckpoint tensors,
                       OpenSafetensorsFolder(path));
  checkpoint.files = std::move(tensors.files);
  checkpoint.tensors = std::move(tensors.tensors);
  return checkpoint;
}

absl::StatusOr<Checkpoint> OpenFile(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  SKV_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  SKV_ASSIGN_OR_RETURN(checkpoint.gguf, GgufFile::Parse(file.bytes()));
  checkpoint.files.push_back(std::move(file));
  checkpoint.tensors = checkpoint.gguf->tensors();
  return checkpoint;
}

}  // namespace

absl::StatusOr<LlamaConfig> Checkpoint::Config() const {
  if (gguf.has_value()) return LlamaConfigFromGguf(*gguf);
  SKV_ASSIGN_OR_RETURN(LlamaConfig config, LlamaConfigFromJson(config_json));
  // A trailing slash leaves the last component empty.
  const fs::path folder(path);
  config.name = folder.has_filename()
                    ? folder.filename().string()
                    : folder.parent_path().filename().string();
  return config;
}

std::string Checkpoint::DominantType() const {
  std::map<SourceType, int64_t> elements;
  for (const CheckpointTensor& tensor : tensors) {
    if (tensor.shape.size() > 1) elements[tensor.type] += tensor.num_elements();
  }
  std::string name;
  int64_t most = 0;
  for (const auto& [type, count] : elements) {
    if (count <= most) continue;
    most = count;
    name = std::string(Name(type));
  }
  return name;
}

absl::StatusOr<Checkpoint> OpenCheckpoint(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    return absl::NotFoundError(
        fmt::format("no such file or folder: {}", Quoted(path, 1024)));
  }
  return status.type() == fs::file_type::directory ? OpenFolder(path)
                                                   : OpenFile(path);
}

absl::StatusOr<std::string> ReadConfigJson(const std::string& path) {
  SKV_ASSIGN_OR_RETURN(const MappedFile config, MappedFile::Open(path));
  if (config.text().size() > kMaxConfigBytes) {
    return absl::DataLossError(
        fmt::format("config.json: at most {} bytes are taken, got {}",
                    kMaxConfigBytes, config.text().size()));
  }
  return std::string(config.text());
}

}  // namespace sentencekv
