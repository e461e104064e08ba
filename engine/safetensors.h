// Reader of safetensors files, alone or as the shards of one checkpoint:
//
//   u64 header size N, N bytes of JSON, data
//   header: {"name": {"dtype": "F32", "shape": [..], "data_offsets": [b, e]},
//            "__metadata__": {"key": "text"}}; offsets count from the data's
//            first byte
//
// Format: https://huggingface.co/docs/safetensors. The tensors must cover the
// data exactly: no overlap, no hole, nothing after the last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint_tensor.h"
#include "engine/mapped_file.h"

namespace sentencekv {

// A header of the largest public checkpoints has about 1 MiB.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 16 << 20;
inline constexpr size_t kMaxSafetensorsTensors = 1 << 16;
inline constexpr size_t kMaxSafetensorsShards = 4096;

// The tensors of one file, which they borrow from. Messages begin with `what`.
// kDataLoss for a file that is cut, too long, overlapping or inconsistent;
// kUnimplemented for a dtype other than F32, F16 and BF16.
absl::StatusOr<std::vector<CheckpointTensor>> ParseSafetensors(
    std::span<const std::byte> bytes, std::string_view what);

// The text of a model.safetensors.index.json: tensor name to file name, which
// is a plain name without folders. kDataLoss as above.
absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(
    std::string_view json_text);

// A checkpoint of one or more files.
struct SafetensorsCheckpoint {
  std::vector<MappedFile> files;          // what the tensors borrow from
  std::vector<CheckpointTensor> tensors;  // names are unique
};

// Reads `folder`/model.safetensors or, without one, the shards that
// model.safetensors.index.json lists. kNotFound when there is neither.
absl::StatusOr<SafetensorsCheckpoint> OpenSafetensorsFolder(
    const std::string& folder);

}  // namespace sentencekv
