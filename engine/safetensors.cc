#include "engine/safetensors.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "fmt/format.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "tokenizer/strict_json.h"

namespace sentencekv {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kMaxDimensions = 4;

absl::Status Bad(std::string_view what, std::string_view name,
                 std::string_view problem) {
  return absl::DataLossError(
      fmt::format("{}: tensor {} {}", what, Quoted(name), problem));
}

// An array member of unsigned numbers, each at most 2^62.
std::optional<std::vector<uint64_t>> UnsignedArray(const Json& object,
                                                   const char* key,
                                                   size_t max_size) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array() || found->size() > max_size) {
    return std::nullopt;
  }
  std::vector<uint64_t> numbers;
  for (const Json& item : *found) {
    if (!item.is_number_unsigned()) return std::nullopt;
    numbers.push_back(item.get<uint64_t>());
    if (numbers.back() > uint64_t{1} << 62) return std::nullopt;
  }
  return numbers;
}

absl::StatusOr<SourceType> TypeOf(const Json& object, std::string_view what,
                                  std::string_view name) {
  const auto found = object.find("dtype");
  if (found == object.end() || !found->is_string()) {
    return Bad(what, name, "has no dtype");
  }
  const auto& dtype = found->get_ref<const std::string&>();
  if (dtype == "F32") return SourceType::kF32;
  if (dtype == "F16") return SourceType::kF16;
  if (dtype == "BF16") return SourceType::kBF16;
  return absl::UnimplementedError(
      fmt::format("{}: dtype of tensor {}: not supported, only F32, F16 and "
                  "BF16; got {}",
                  what, Quoted(name), Quoted(dtype)));
}

// One entry of the header, bound to its bytes.
absl::StatusOr<CheckpointTensor> ParseTensor(std::string_view what,
                                             const std::string& name,
                                             const Json& object,
                                             std::span<const std::byte> data) {
  if (!object.is_object()) return Bad(what, name, "is not an object");
  CheckpointTensor tensor;
  tensor.name = name;
  SKV_ASSIGN_OR_RETURN(tensor.type, TypeOf(object, what, name));
  const auto shape = UnsignedArray(object, "shape", kMaxDimensions);
  if (!shape.has_value()) {
    return Bad(what, name,
               fmt::format("has no shape of at most {} sizes", kMaxDimensions));
  }
  for (const uint64_t size : *shape) {
    if (size == 0) return Bad(what, name, "has a dimension of size 0");
    tensor.shape.push_back(static_cast<int64_t>(size));
  }
  SKV_ASSIGN_OR_RETURN(const uint64_t size_bytes, TensorBytes(tensor));
  const auto offsets = UnsignedArray(object, "data_offsets", 2);
  if (!offsets.has_value() || offsets->size() != 2) {
    return Bad(what, name, "has no pair of data_offsets");
  }
  const uint64_t begin = offsets->front(), end = offsets->back();
  if (begin > end || end > data.size() || end - begin != size_bytes) {
    return Bad(what, name,
               fmt::format("needs {} bytes and claims {}..{} of {}", size_bytes,
                           begin, end, data.size()));
  }
  tensor.data = data.subspan(begin, size_bytes);
  return tensor;
}

// Neither overlap nor hole nor trailing bytes: the specification's demand.
absl::Status CheckCoverage(std::string_view what,
                           const std::vector<CheckpointTensor>& tensors,
                           std::span<const std::byte> data) {
  std::vector<const CheckpointTensor*> order;
  for (const CheckpointTensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(),
            [](const CheckpointTensor* a, const CheckpointTensor* b) {
              return a->data.data() < b->data.data();
            });
  const std::byte* expected = data.data();
  for (const CheckpointTensor* tensor : order) {
    if (tensor->data.data() != expected) {
      return Bad(what, tensor->name,
                 tensor->data.data() < expected
                     ? "overlaps the tensor before it"
                     : "leaves a hole before it");
    }
    expected += tensor->data.size();
  }
  const auto trailing =
      static_cast<size_t>(data.data() + data.size() - expected);
  if (trailing != 0) {
    return absl::DataLossError(
        fmt::format("{}: {} bytes follow the last tensor", what, trailing));
  }
  return absl::OkStatus();
}

std::string InFolder(const std::string& folder, const std::string& name) {
  return (fs::path(folder) / name).string();
}

}  // namespace

absl::StatusOr<std::vector<CheckpointTensor>> ParseSafetensors(
    std::span<const std::byte> bytes, std::string_view what) {
  ByteReader reader(bytes);
  uint64_t header_size = 0;
  std::span<const std::byte> header;
  if (!reader.Read(&header_size)) {
    return absl::DataLossError(fmt::format(
        "{}: too short for a header: {} bytes", what, bytes.size()));
  }
  if (header_size > kMaxSafetensorsHeaderBytes ||
      !reader.ReadBytes(header_size, &header)) {
    return absl::DataLossError(fmt::format(
        "{}: a header of {} bytes; the limit is {} and the file has {}", what,
        header_size, kMaxSafetensorsHeaderBytes, reader.remaining()));
  }
  SKV_ASSIGN_OR_RETURN(
      const Json json,
      ParseJsonObject(
          {reinterpret_cast<const char*>(header.data()), header.size()}, what));
  if (json.size() > kMaxSafetensorsTensors) {
    return absl::DataLossError(
        fmt::format("{}: at most {} tensors are taken, got {}", what,
                    kMaxSafetensorsTensors, json.size()));
  }
  const std::span<const std::byte> data = bytes.subspan(reader.position());
  std::vector<CheckpointTensor> tensors;
  for (const auto& [name, object] : json.items()) {
    if (name == "__metadata__") continue;
    SKV_ASSIGN_OR_RETURN(CheckpointTensor tensor,
                         ParseTensor(what, name, object, data));
    tensors.push_back(std::move(tensor));
  }
  SKV_RETURN_IF_ERROR(CheckCoverage(what, tensors, data));
  return tensors;
}

absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(
    std::string_view json_text) {
  constexpr std::string_view kWhat = "model.safetensors.index.json";
  if (json_text.size() > kMaxSafetensorsHeaderBytes) {
    return absl::DataLossError(
        fmt::format("{}: at most {} bytes are taken, got {}", kWhat,
                    kMaxSafetensorsHeaderBytes, json_text.size()));
  }
  SKV_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(json_text, kWhat));
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) {
    return absl::DataLossError(fmt::format("{}: no weight_map", kWhat));
  }
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : map->items()) {
    const std::string file_name =
        file.is_string() ? file.get<std::string>() : "";
    // A plain name: an index must not reach out of its folder.
    if (file_name.empty() || file_name.starts_with('.') ||
        file_name.find('/') != std::string::npos ||
        file_name.find('\0') != std::string::npos) {
      return absl::DataLossError(
          fmt::format("{}: tensor {} has no plain file name, got {}", kWhat,
                      Quoted(name), Quoted(file_name)));
    }
    files.emplace(name, file_name);
  }
  return files;
}

namespace {

// Appends the tensors of one file, all of which `index` must place there.
absl::Status AppendShard(const std::string& folder, const std::string& file,
                         const std::map<std::string, std::string>& index,
                         SafetensorsCheckpoint* checkpoint) {
  SKV_ASSIGN_OR_RETURN(MappedFile mapped,
                       MappedFile::Open(InFolder(folder, file)));
  SKV_ASSIGN_OR_RETURN(std::vector<CheckpointTensor> tensors,
                       ParseSafetensors(mapped.bytes(), Quoted(file)));
  for (CheckpointTensor& tensor : tensors) {
    const auto place = index.find(tensor.name);
    if (place == index.end() || place->second != file) {
      return Bad(Quoted(file), tensor.name,
                 "is not where model.safetensors.index.json says");
    }
    checkpoint->tensors.push_back(std::move(tensor));
  }
  checkpoint->files.push_back(std::move(mapped));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsCheckpoint> OpenSafetensorsFolder(
    const std::string& folder) {
  SafetensorsCheckpoint checkpoint;
  absl::StatusOr<MappedFile> single =
      MappedFile::Open(InFolder(folder, "model.safetensors"));
  if (single.ok()) {
    SKV_ASSIGN_OR_RETURN(
        checkpoint.tensors,
        ParseSafetensors(single->bytes(), "model.safetensors"));
    checkpoint.files.push_back(*std::move(single));
    return checkpoint;
  }
  if (!absl::IsNotFound(single.status())) return single.status();
  absl::StatusOr<MappedFile> index_file =
      MappedFile::Open(InFolder(folder, "model.safetensors.index.json"));
  if (absl::IsNotFound(index_file.status())) {
    return absl::NotFoundError(
        fmt::format("neither model.safetensors nor "
                    "model.safetensors.index.json in folder {}",
                    Quoted(folder, 1024)));
  }
  SKV_RETURN_IF_ERROR(index_file.status());
  SKV_ASSIGN_OR_RETURN(const auto index,
                       ParseSafetensorsIndex(index_file->text()));
  std::set<std::string> files;
  for (const auto& [name, file] : index) files.insert(file);
  if (files.size() > kMaxSafetensorsShards) {
    return absl::DataLossError(fmt::format(
        "model.safetensors.index.json: at most {} files are taken, got {}",
        kMaxSafetensorsShards, files.size()));
  }
  for (const std::string& file : files) {
    SKV_RETURN_IF_ERROR(AppendShard(folder, file, index, &checkpoint));
  }
  // Each shard's tensors are in the index; equal counts make it mutual.
  if (checkpoint.tensors.size() != index.size()) {
    return absl::DataLossError(fmt::format(
        "model.safetensors.index.json lists {} tensors and its files have {}",
        index.size(), checkpoint.tensors.size()));
  }
  return checkpoint;
}

}  // namespace sentencekv
