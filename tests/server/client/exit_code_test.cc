#include "server/client/exit_code.h"

#include <gtest/gtest.h>

#include "tests/server/client/fake_service.h"

namespace sentencekv {
namespace {

TEST(ExitCode, EachStatusHasTheDocumentedOne) {
  const struct {
    grpc::StatusCode code;
    ClientExitCode expected;
    std::string_view name;
  } kCases[] = {
      {grpc::StatusCode::OK, ClientExitCode::kOk, "OK"},
      {grpc::StatusCode::CANCELLED, ClientExitCode::kCancelled, "CANCELLED"},
      {grpc::StatusCode::UNKNOWN, ClientExitCode::kFailed, "UNKNOWN"},
      {grpc::StatusCode::INVALID_ARGUMENT, ClientExitCode::kInvalid,
       "INVALID_ARGUMENT"},
      {grpc::StatusCode::DEADLINE_EXCEEDED, ClientExitCode::kCancelled,
       "DEADLINE_EXCEEDED"},
      {grpc::StatusCode::NOT_FOUND, ClientExitCode::kInvalid, "NOT_FOUND"},
      {grpc::StatusCode::ALREADY_EXISTS, ClientExitCode::kInvalid,
       "ALREADY_EXISTS"},
      {grpc::StatusCode::PERMISSION_DENIED, ClientExitCode::kInvalid,
       "PERMISSION_DENIED"},
      {grpc::StatusCode::RESOURCE_EXHAUSTED, ClientExitCode::kRefused,
       "RESOURCE_EXHAUSTED"},
      {grpc::StatusCode::FAILED_PRECONDITION, ClientExitCode::kInvalid,
       "FAILED_PRECONDITION"},
      {grpc::StatusCode::ABORTED, ClientExitCode::kFailed, "ABORTED"},
      {grpc::StatusCode::OUT_OF_RANGE, ClientExitCode::kInvalid,
       "OUT_OF_RANGE"},
      {grpc::StatusCode::UNIMPLEMENTED, ClientExitCode::kInvalid,
       "UNIMPLEMENTED"},
      {grpc::StatusCode::INTERNAL, ClientExitCode::kFailed, "INTERNAL"},
      {grpc::StatusCode::UNAVAILABLE, ClientExitCode::kUnreachable,
       "UNAVAILABLE"},
      {grpc::StatusCode::DATA_LOSS, ClientExitCode::kFailed, "DATA_LOSS"},
      {grpc::StatusCode::UNAUTHENTICATED, ClientExitCode::kInvalid,
       "UNAUTHENTICATED"},
  };
  for (const auto& test : kCases) {
    EXPECT_EQ(ExitCodeOf(grpc::Status(test.code, "")), test.expected)
        << test.name;
    EXPECT_EQ(Name(test.code), test.name);
  }
  EXPECT_EQ(Name(static_cast<grpc::StatusCode>(99)), "UNKNOWN");
}

TEST(ErrorText, IsOneLineWithoutDetails) {
  EXPECT_EQ(ErrorText(grpc::Status(grpc::StatusCode::NOT_FOUND, "no model x")),
            "sentencekv: NOT_FOUND: no model x\n");
  EXPECT_EQ(ErrorText(grpc::Status(grpc::StatusCode::INTERNAL, "")),
            "sentencekv: INTERNAL: no message\n");
}

TEST(ErrorText, ListsFieldsAndRetryDelay) {
  EXPECT_EQ(
      ErrorText(DetailedStatus(grpc::StatusCode::INVALID_ARGUMENT, "bad",
                               "sampling.top_p", "must be in (0, 1]", 1.5)),
      "sentencekv: INVALID_ARGUMENT: bad\n"
      "  sampling.top_p: must be in (0, 1]\n"
      "  retry after 1.5 s\n");
}

TEST(ErrorText, IgnoresDetailsThatAreNotAStatus) {
  EXPECT_EQ(ErrorText(grpc::Status(grpc::StatusCode::INTERNAL, "broken",
                                   "\xff\xff\xff not a message")),
            "sentencekv: INTERNAL: broken\n");
}

TEST(UsageErrorText, HasTheSameShape) {
  EXPECT_EQ(UsageErrorText("no such flag"),
            "sentencekv: USAGE: no such flag\n");
}

}  // namespace
}  // namespace sentencekv
