#include "tests/support/test_files.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <vector>

namespace sentencekv {
namespace fs = std::filesystem;
namespace {

std::optional<std::string> IfExists(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  return path.string();
}

// Folders to remove when the test process ends.
class TempDirs {
 public:
  ~TempDirs() {
    std::error_code error;
    for (const std::string& dir : dirs_) fs::remove_all(dir, error);
  }
  std::string Make() {
    std::string pattern =
        (fs::temp_directory_path() / "sentencekv-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    std::lock_guard lock(mutex_);
    dirs_.push_back(pattern);
    return pattern;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> dirs_;
};

}  // namespace

std::string SourceDir() { return SENTENCEKV_SOURCE_DIR; }

std::string MakeTempDir() {
  static TempDirs dirs;
  return dirs.Make();
}

std::optional<std::string> SmolLmPath() {
  if (const char* path = std::getenv("SENTENCEKV_TEST_MODEL"))
    return IfExists(path);
  fs::path cache;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME")) {
    cache = xdg;
  } else if (const char* home = std::getenv("HOME")) {
    cache = fs::path(home) / ".cache";
  } else {
    return std::nullopt;
  }
  return IfExists(cache / "sentencekv" / "SmolLM2-135M-Instruct.Q4_1.gguf");
}

std::optional<std::string> SharedPath(const std::string& relative) {
  return IfExists(fs::path(SourceDir()).parent_path() / "shared" / relative);
}

}  // namespace sentencekv
