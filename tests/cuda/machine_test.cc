// The CUDA backend on the machine that the test runs on, whatever it has.
#include <cstdlib>
#include <string_view>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"

namespace sentencekv {
namespace {

TEST(MakeCudaBackendTest, WorksOrSaysWhatThisMachineLacks) {
  const auto backend = MakeCudaBackend({});
  const char* required = std::getenv("SENTENCEKV_REQUIRE_CUDA");
  if (backend.ok() ||
      (required != nullptr && std::string_view(required) == "1")) {
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_TRUE((*backend)->Allocate(1 << 20).ok());
    return;
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(backend.status()));
  EXPECT_NE(backend.status().message().find("the CUDA backend needs"),
            absl::string_view::npos)
      << backend.status();
}

}  // namespace
}  // namespace sentencekv
