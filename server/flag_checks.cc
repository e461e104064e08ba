#include "server/flag_checks.h"

#include <fmt/format.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/flag_values.h"

namespace sentencekv {
namespace {

absl::StatusOr<absl::Duration> ParsePositiveDuration(const std::string& text) {
  absl::StatusOr<absl::Duration> duration = ParseDuration(text);
  if (duration.ok() && *duration <= absl::ZeroDuration())
    return absl::InvalidArgumentError(
        fmt::format("must be more than zero: \"{}\"", text));
  return duration;
}

absl::StatusOr<absl::Duration> ParseGrpcDuration(const std::string& text) {
  absl::StatusOr<absl::Duration> duration = ParseDuration(text);
  if (duration.ok() && *duration > absl::Hours(24 * 20))
    return absl::InvalidArgumentError(
        fmt::format("longer than 20 days: \"{}\"", text));
  return duration;
}

absl::StatusOr<ListenAddress> ParseMetricsAddress(const std::string& text) {
  if (text.empty()) return ListenAddress();
  absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
  if (address.ok() && address->is_unix())
    return absl::InvalidArgumentError(
        fmt::format("metrics are served over TCP only: \"{}\"", text));
  return address;
}

}  // namespace

CLI::Validator SizeWithin(int64_t minimum, int64_t maximum) {
  return CLI::Validator(
      [minimum, maximum](std::string& text) {
        const absl::StatusOr<int64_t> size = ParseByteSize(text);
        if (!size.ok()) return std::string(size.status().message());
        if (*size >= minimum && *size <= maximum) return std::string();
        return fmt::format("{} is not within {}..{} bytes", text, minimum,
                           maximum);
      },
      "SIZE");
}

CLI::Validator DurationCheck() { return CheckedBy(ParseDuration, "DURATION"); }

CLI::Validator PositiveDurationCheck() {
  return CheckedBy(ParsePositiveDuration, "DURATION");
}

CLI::Validator GrpcDurationCheck() {
  return CheckedBy(ParseGrpcDuration, "DURATION");
}

CLI::Validator MetricsAddressCheck() {
  return CheckedBy(ParseMetricsAddress, "ADDRESS");
}

}  // namespace sentencekv
