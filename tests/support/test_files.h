// Where tests find what is not in this repository, and how they skip without
// it.
#pragma once

#include <optional>
#include <string>

namespace sentencekv {

// Root of the source tree.
std::string SourceDir();
// A fresh folder that is removed at exit.
std::string MakeTempDir();
// SmolLM2-135M-Instruct.Q4_1.gguf: $SENTENCEKV_TEST_MODEL, else where
// deploy/fetch_model.sh puts it. Nothing when it is not there.
std::optional<std::string> SmolLmPath();
// A file or folder below the reference material beside the repository
// ("../shared"), e.g. "models/stories260k". Nothing when it is not there.
std::optional<std::string> SharedPath(const std::string& relative);

}  // namespace sentencekv

// Skips the test, with the reason, when `optional_path` is empty.
#define SKV_SKIP_WITHOUT(optional_path, what) \
  if (!(optional_path).has_value()) GTEST_SKIP() << "not here: " << (what)
