// Read-only view of a file, and a cursor over bytes that cannot leave them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"

namespace sentencekv {

static_assert(std::endian::native == std::endian::little,
              "model files are little endian and are read without swapping");

// A file mapped read-only and private. Move-only; the bytes live as long as
// this does. The file must not be truncated by others meanwhile: the system
// answers a read of a page that is gone with SIGBUS.
class MappedFile {
 public:
  // kNotFound when there is no such file, kInvalidArgument when it is not a
  // regular file, kUnavailable (with the system's reason) for anything else.
  // An empty file gives an empty view.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(data_), size_};
  }
  std::string_view text() const {
    return {static_cast<const char*>(data_), size_};
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Cursor over bytes; every read is checked. A read that fails moves nothing.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  // Little-endian number at the cursor, at any alignment.
  template <typename T>
  [[nodiscard]] bool Read(T* value) {
    static_assert(std::is_arithmetic_v<T>);
    if (remaining() < sizeof(T)) return false;
    std::memcpy(value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return true;
  }

  [[nodiscard]] bool ReadBytes(uint64_t size, std::span<const std::byte>* out) {
    if (remaining() < size) return false;
    *out = bytes_.subspan(position_, size);
    position_ += size;
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

}  // namespace sentencekv
