// Owning block of backend memory.
#pragma once

#include <cstddef>
#include <utility>

namespace sentencekv {

// Move-only owner of a block that a Backend allocated, aligned to 64 bytes at
// least. Must not outlive the backend. Not thread-safe.
class Buffer {
 public:
  using Deleter = void (*)(void* context, void* data, size_t size_bytes);

  Buffer() = default;
  Buffer(void* data, size_t size_bytes, Deleter deleter, void* context)
      : data_(data),
        size_bytes_(size_bytes),
        deleter_(deleter),
        context_(context) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    std::swap(deleter_, other.deleter_);
    std::swap(context_, other.context_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) deleter_(context_, data_, size_bytes_);
  }

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t size_bytes() const { return size_bytes_; }

 private:
  void* data_ = nullptr;
  size_t size_bytes_ = 0;
  Deleter deleter_ = nullptr;
  void* context_ = nullptr;
};

}  // namespace sentencekv
