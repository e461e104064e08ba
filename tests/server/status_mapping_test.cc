#include "server/status_mapping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/server/server_fixture.h"

namespace sentencekv {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(InvalidRequest, CarriesFieldsAndReasons) {
  const std::vector<FieldViolation> violations = {{"a.b", "must be 1, got 2"},
                                                  {"c", "must not be empty"}};
  const grpc::Status status = InvalidRequest(violations);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(),
            "invalid request, 2 fields: a.b: must be 1, got 2; c: must not be "
            "empty");
  google::rpc::Status rich;
  ASSERT_TRUE(rich.ParseFromString(status.error_details()));
  EXPECT_EQ(rich.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(rich.message(), status.error_message());
  const auto details = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_EQ(details.field_violations_size(), 2);
  EXPECT_EQ(details.field_violations(1).field(), "c");
  EXPECT_EQ(details.field_violations(1).description(), "must not be empty");
}

TEST(InvalidRequest, StaysWithinWhatClientsAcceptAsTrailers) {
  const std::vector<FieldViolation> violations(
      2000, {std::string(60, 'f'), std::string(120, 'd')});
  const grpc::Status status = InvalidRequest(violations);
  EXPECT_EQ(
      static_cast<size_t>(
          DetailOf<google::rpc::BadRequest>(status).field_violations_size()),
      kMaxReportedViolations);
  EXPECT_THAT(status.error_message(), HasSubstr("2000 fields"));
  // In base64, with the message again in its own header.
  EXPECT_LT(
      status.error_details().size() * 4 / 3 + status.error_message().size(),
      8u << 10);
}

TEST(Refused, QueueFullSaysWhichQuotaAndWhen) {
  const grpc::Status status =
      Refused(absl::ResourceExhaustedError("256 waiting"), "text");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailOf<google::rpc::QuotaFailure>(status).violations(0).subject(),
            "queue");
  EXPECT_GT(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(),
            0);
}

TEST(Refused, AnInvalidPromptNamesItsField) {
  const grpc::Status status =
      Refused(absl::InvalidArgumentError("9 tokens do not fit"), "token_ids");
  EXPECT_EQ(FieldsOf(status), std::vector<std::string>{"token_ids"});
  EXPECT_THAT(status.error_message(), HasSubstr("9 tokens do not fit"));
}

TEST(Refused, UnexpectedErrorsTellNothing) {
  for (const absl::Status& error :
       {absl::InternalError("0x7f00 secret"), absl::DataLossError("secret"),
        absl::UnknownError("secret")}) {
    const grpc::Status status = Refused(error, "text");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
    EXPECT_THAT(status.error_message(), Not(HasSubstr("secret")));
    EXPECT_THAT(status.error_details(), Not(HasSubstr("secret")));
  }
}

TEST(StatusOf, MapsErrorsAfterAcceptance) {
  Finish finish;
  finish.reason = FinishReason::kError;
  finish.status = absl::ResourceExhaustedError("the reader is slow");
  EXPECT_EQ(StatusOf(finish).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  finish.status = absl::UnavailableError("draining");
  EXPECT_EQ(StatusOf(finish).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(StatusOf(finish).error_message().find("device"),
            std::string::npos);
  finish.status = absl::DataLossError("illegal address");
  EXPECT_EQ(StatusOf(finish).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_NE(StatusOf(finish).error_message().find("lost its device"),
            std::string::npos);
  finish.status = absl::InternalError("step failed");
  EXPECT_EQ(StatusOf(finish).error_code(), grpc::StatusCode::INTERNAL);
}

TEST(Name, NamesEveryCode) {
  EXPECT_EQ(Name(grpc::StatusCode::OK), "OK");
  EXPECT_EQ(Name(grpc::StatusCode::INVALID_ARGUMENT), "INVALID_ARGUMENT");
  EXPECT_EQ(Name(grpc::StatusCode::UNAUTHENTICATED), "UNAUTHENTICATED");
  EXPECT_EQ(Name(static_cast<grpc::StatusCode>(99)), "UNKNOWN");
}

}  // namespace
}  // namespace sentencekv
