#include "engine/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "absl/status/status.h"
#include "fmt/format.h"
#include "kernels/quoted.h"

namespace sentencekv {
namespace {

absl::Status SystemError(std::string_view action, const std::string& path,
                         int error) {
  const std::string message =
      fmt::format("cannot {} file {}: {}", action, Quoted(path, 1024),
                  std::generic_category().message(error));
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
  if (error == EACCES) return absl::PermissionDeniedError(message);
  return absl::UnavailableError(message);
}

// Closes a file descriptor at the end of a scope; a mapping outlives it.
struct FileDescriptor {
  int value = -1;
  ~FileDescriptor() {
    if (value >= 0) close(value);
  }
};

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a named pipe must not hang; it is refused below.
  const FileDescriptor file{
      open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) return SystemError("open", path, errno);
  struct stat status = {};
  if (fstat(file.value, &status) != 0) {
    return SystemError("read the size of", path, errno);
  }
  if (!S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(
        fmt::format("not a regular file: {}", Quoted(path, 1024)));
  }
  MappedFile mapped;
  if (status.st_size == 0) return mapped;
  const auto size = static_cast<size_t>(status.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (data == MAP_FAILED) return SystemError("map", path, errno);
  mapped.data_ = data;
  mapped.size_ = size;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

}  // namespace sentencekv
