#include "engine/gguf.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>

#include "absl/status/status.h"
#include "engine/checked_math.h"
#include "engine/gguf_types.h"
#include "engine/mapped_file.h"
#include "fmt/format.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kVersion = 3;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kMaxDimensions = 4;
// Smallest encodings, to reject a count that the file cannot hold before
// anything is reserved for it.
constexpr uint64_t kMinMetadataBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;

absl::Status Truncated(std::string_view what, size_t position) {
  return absl::DataLossError(
      fmt::format("GGUF: the file ends inside {}, at byte {}", what, position));
}

absl::Status CheckCount(std::string_view what, uint64_t count, uint64_t limit,
                        uint64_t min_bytes, uint64_t remaining) {
  if (count > limit || count > remaining / min_bytes) {
    return absl::DataLossError(
        fmt::format("GGUF: {} is {}; the limit is {} and the file has {} bytes "
                    "for them",
                    what, count, limit, remaining));
  }
  return absl::OkStatus();
}

}  // namespace

// One pass over the bytes, in the order of the file.
class GgufParser {
 public:
  explicit GgufParser(std::span<const std::byte> bytes)
      : bytes_(bytes), reader_(bytes) {}

  absl::StatusOr<GgufFile> Parse() {
    SKV_RETURN_IF_ERROR(ReadHeader());
    for (uint64_t i = 0; i < metadata_count_; ++i) {
      SKV_RETURN_IF_ERROR(ReadMetadata());
    }
    SKV_RETURN_IF_ERROR(ReadAlignment());
    for (uint64_t i = 0; i < tensor_count_; ++i) {
      SKV_RETURN_IF_ERROR(ReadTensor());
    }
    SKV_RETURN_IF_ERROR(PlaceTensors());
    return std::move(file_);
  }

 private:
  // A tensor's place in the data section, before it is bound to bytes.
  struct Extent {
    uint64_t offset = 0;
    uint64_t size = 0;
    size_t tensor = 0;
  };

  absl::Status ReadHeader() {
    uint32_t magic = 0, version = 0;
    if (!reader_.Read(&magic) || magic != kMagic) {
      return absl::DataLossError("GGUF: the file does not begin with 'GGUF'");
    }
    if (!reader_.Read(&version)) return Truncated("the header", 4);
    if (version != kVersion) {
      return absl::UnimplementedError(fmt::format(
          "GGUF version: only {} in little-endian order is supported, got {}{}",
          kVersion, version,
          version == __builtin_bswap32(kVersion) ? " (big endian)" : ""));
    }
    if (!reader_.Read(&tensor_count_) || !reader_.Read(&metadata_count_)) {
      return Truncated("the header", reader_.position());
    }
    SKV_RETURN_IF_ERROR(CheckCount("the tensor count", tensor_count_,
                                   kMaxGgufTensors, kMinTensorBytes,
                                   reader_.remaining()));
    return CheckCount("the metadata count", metadata_count_, kMaxGgufMetadata,
                      kMinMetadataBytes, reader_.remaining());
  }

  absl::StatusOr<std::string_view> ReadString(std::string_view what,
                                              uint64_t limit) {
    const size_t start = reader_.position();
    uint64_t size = 0;
    std::span<const std::byte> text;
    if (!reader_.Read(&size)) return Truncated(what, start);
    if (size > limit) {
      return absl::DataLossError(
          fmt::format("GGUF: {} at byte {} has {} bytes; the limit is {}", what,
                      start, size, limit));
    }
    if (!reader_.ReadBytes(size, &text)) return Truncated(what, start);
    return std::string_view(reinterpret_cast<const char*>(text.data()),
                            text.size());
  }

  absl::Status ReadMetadata() {
    SKV_ASSIGN_OR_RETURN(const std::string_view key,
                         ReadString("a metadata key", kMaxGgufKeyBytes));
    if (!file_.index_.emplace(key, file_.metadata_.size()).second) {
      return absl::DataLossError(
          fmt::format("GGUF: metadata key {} occurs twice", Quoted(key)));
    }
    uint32_t type = 0;
    if (!reader_.Read(&type)) return Truncated("metadata", reader_.position());
    SKV_ASSIGN_OR_RETURN(GgufValue value, ReadValue(key, type));
    file_.metadata_.emplace_back(key, value);
    return absl::OkStatus();
  }

  absl::StatusOr<GgufValue> ReadValue(std::string_view key, uint32_t type) {
    switch (static_cast<GgufType>(type)) {
      case GgufType::kString: {
        SKV_ASSIGN_OR_RETURN(
            const std::string_view text,
            ReadString("a metadata string", kMaxGgufStringBytes));
        return GgufValue(text);
      }
      case GgufType::kArray: {
        SKV_ASSIGN_OR_RETURN(const GgufArray array, ReadArray(key));
        return GgufValue(array);
      }
      default:
        break;
    }
    const std::optional<uint64_t> size = GgufScalarBytes(type);
    if (!size.has_value()) {
      return absl::DataLossError(fmt::format(
          "GGUF: metadata {} has an unknown type: {}", Quoted(key), type));
    }
    std::span<const std::byte> data;
    if (!reader_.ReadBytes(*size, &data)) {
      return Truncated("metadata", reader_.position());
    }
    std::optional<GgufValue> value =
        DecodeGgufScalar(static_cast<GgufType>(type), data);
    if (!value.has_value()) {
      return absl::DataLossError(fmt::format(
          "GGUF: metadata {} does not hold a value of its type", Quoted(key)));
    }
    return *std::move(value);
  }

  absl::StatusOr<GgufArray> ReadArray(std::string_view key) {
    uint32_t type = 0;
    GgufArray array;
    if (!reader_.Read(&type) || !reader_.Read(&array.count)) {
      return Truncated("an array", reader_.position());
    }
    array.element_type = static_cast<GgufType>(type);
    const bool is_string = array.element_type == GgufType::kString;
    const std::optional<uint64_t> element_bytes =
        is_string ? sizeof(uint64_t) : GgufScalarBytes(type);
    if (!element_bytes.has_value()) {
      return absl::DataLossError(fmt::format(
          "GGUF: array {} has elements of type {}; only numbers, booleans and "
          "strings are taken",
          Quoted(key), type));
    }
    SKV_RETURN_IF_ERROR(CheckCount(fmt::format("the size of {}", Quoted(key)),
                                   array.count, kMaxGgufArrayCount,
                                   *element_bytes, reader_.remaining()));
    const size_t start = reader_.position();
    uint64_t size = array.count * *element_bytes;
    if (is_string) {
      for (uint64_t i = 0; i < array.count; ++i) {
        SKV_RETURN_IF_ERROR(
            ReadString("a string of an array", kMaxGgufStringBytes).status());
      }
      size = reader_.position() - start;
      array.data = bytes_.subspan(start, size);
    } else if (!reader_.ReadBytes(size, &array.data)) {
      return Truncated("an array", start);
    }
    return array;
  }

  absl::Status ReadAlignment() {
    const GgufValue* value = file_.Find("general.alignment");
    if (value == nullptr) return absl::OkStatus();
    const int64_t* number = std::get_if<int64_t>(value);
    // A power of two and a multiple of 8, so that no number straddles.
    if (number == nullptr || *number < 8 ||
        *number > static_cast<int64_t>(kMaxGgufAlignment) ||
        (*number & (*number - 1)) != 0) {
      return absl::DataLossError(fmt::format(
          "general.alignment: not a power of two in 8..{}, got {}",
          kMaxGgufAlignment,
          number == nullptr ? "another type" : fmt::format("{}", *number)));
    }
    alignment_ = static_cast<uint64_t>(*number);
    return absl::OkStatus();
  }

  absl::Status ReadTensor() {
    CheckpointTensor tensor;
    SKV_ASSIGN_OR_RETURN(const std::string_view name,
                         ReadString("a tensor name", kMaxGgufTensorNameBytes));
    if (!tensor_names_.insert(name).second) {
      return absl::DataLossError(
          fmt::format("GGUF: tensor {} occurs twice", Quoted(name)));
    }
    tensor.name = std::string(name);
    SKV_RETURN_IF_ERROR(ReadShape(&tensor));
    uint32_t type = 0;
    Extent extent{.tensor = file_.tensors_.size()};
    if (!reader_.Read(&type) || !reader_.Read(&extent.offset)) {
      return Truncated("a tensor description", reader_.position());
    }
    SKV_ASSIGN_OR_RETURN(tensor.type, SourceTypeFromGgml(name, type));
    SKV_ASSIGN_OR_RETURN(extent.size, TensorBytes(tensor));
    if (extent.offset % alignment_ != 0) {
      return absl::DataLossError(fmt::format(
          "GGUF: tensor {} begins at offset {}, not a multiple of {}",
          Quoted(name), extent.offset, alignment_));
    }
    extents_.push_back(extent);
    file_.tensors_.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  absl::Status ReadShape(CheckpointTensor* tensor) {
    uint32_t dimensions = 0;
    if (!reader_.Read(&dimensions)) {
      return Truncated("a tensor description", reader_.position());
    }
    if (dimensions < 1 || dimensions > kMaxDimensions) {
      return absl::DataLossError(
          fmt::format("GGUF: tensor {} has {} dimensions, not 1..{}",
                      Quoted(tensor->name), dimensions, kMaxDimensions));
    }
    for (uint32_t i = 0; i < dimensions; ++i) {
      uint64_t size = 0;
      if (!reader_.Read(&size)) {
        return Truncated("a tensor description", reader_.position());
      }
      if (size < 1 || size > std::numeric_limits<int64_t>::max()) {
        return absl::DataLossError(
            fmt::format("GGUF: tensor {} has a dimension of size {}",
                        Quoted(tensor->name), size));
      }
      tensor->shape.insert(tensor->shape.begin(), static_cast<int64_t>(size));
    }
    return absl::OkStatus();
  }

  // Binds every tensor to its bytes. In the order of offsets, each begins where
  // the padding of the one before ends: neither overlap nor hidden data.
  absl::Status PlaceTensors() {
    const std::optional<uint64_t> start =
        CheckedAlignUp(reader_.position(), alignment_);
    if (extents_.empty()) {
      return CheckEnd(reader_.position(), *start);
    }
    std::sort(
        extents_.begin(), extents_.end(),
        [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
    uint64_t expected = 0, end = 0;
    for (const Extent& extent : extents_) {
      CheckpointTensor& tensor = file_.tensors_[extent.tensor];
      if (extent.offset != expected) {
        return absl::DataLossError(fmt::format(
            "GGUF: tensor {} begins at offset {}, where {} would follow the "
            "tensor before it: {}",
            Quoted(tensor.name), extent.offset, expected,
            extent.offset < expected ? "they overlap" : "there is a gap"));
      }
      const std::optional<uint64_t> begin = CheckedAdd(*start, extent.offset);
      const std::optional<uint64_t> stop =
          begin.has_value() ? CheckedAdd(*begin, extent.size) : std::nullopt;
      if (!stop.has_value() || *stop > bytes_.size()) {
        return absl::DataLossError(fmt::format(
            "GGUF: tensor {} of {} bytes at offset {} lies outside the file of "
            "{} bytes",
            Quoted(tensor.name), extent.size, extent.offset, bytes_.size()));
      }
      tensor.data = bytes_.subspan(*begin, extent.size);
      end = *stop;
      // Cannot overflow: it is at most the file's size plus the alignment.
      expected = *CheckedAlignUp(extent.offset + extent.size, alignment_);
    }
    return CheckEnd(end, *start + expected);
  }

  // The file may end at `end`, in the padding after it, or at `padded_end`.
  absl::Status CheckEnd(uint64_t end, uint64_t padded_end) const {
    if (bytes_.size() <= std::max(end, padded_end)) return absl::OkStatus();
    return absl::DataLossError(fmt::format(
        "GGUF: {} bytes follow the last tensor", bytes_.size() - padded_end));
  }

  std::span<const std::byte> bytes_;
  ByteReader reader_;
  uint64_t tensor_count_ = 0;
  uint64_t metadata_count_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
  std::set<std::string_view> tensor_names_;
  std::vector<Extent> extents_;
  GgufFile file_;
};

absl::StatusOr<GgufFile> GgufFile::Parse(std::span<const std::byte> bytes) {
  return GgufParser(bytes).Parse();
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &metadata_[found->second].second;
}

}  // namespace sentencekv
