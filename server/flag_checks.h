// Checks of flags for CLI11, made of the parsers of flag_values.h.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "fmt/format.h"
#include "kernels/dtype.h"
#include "server/flag_values.h"

namespace sentencekv {

// A CLI11 check made of one of our parsers.
template <typename Parser>
CLI::Validator CheckedBy(Parser parse, const char* type_name) {
  return CLI::Validator(
      [parse](std::string& text) {
        const auto result = parse(text);
        return result.ok() ? std::string()
                           : std::string(result.status().message());
      },
      type_name);
}

// A size within [minimum, maximum].
inline CLI::Validator SizeWithin(int64_t minimum, int64_t maximum) {
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

inline absl::StatusOr<ListenAddress> ParseOptionalAddress(
    const std::string& text) {
  if (text.empty()) return ListenAddress();
  absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
  if (address.ok() && address->is_unix())
    return absl::InvalidArgumentError(
        fmt::format("metrics are served over TCP only: \"{}\"", text));
  return address;
}

// Duration that fits the milliseconds of a gRPC channel argument.
inline absl::StatusOr<absl::Duration> ParseGrpcDuration(
    const std::string& text) {
  absl::StatusOr<absl::Duration> duration = ParseDuration(text);
  if (duration.ok() && *duration > absl::Hours(24 * 20))
    return absl::InvalidArgumentError(
        fmt::format("longer than 20 days: \"{}\"", text));
  return duration;
}

inline absl::StatusOr<DType> ParseKvDtype(const std::string& name) {
  if (name == "f16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  if (name == "f32") return DType::kF32;
  return absl::InvalidArgumentError(
      fmt::format("KV element type is f16, bf16 or f32, not \"{}\"", name));
}

inline absl::StatusOr<absl::Duration> ParsePositiveDuration(
    const std::string& text) {
  absl::StatusOr<absl::Duration> duration = ParseDuration(text);
  if (duration.ok() && *duration <= absl::ZeroDuration())
    return absl::InvalidArgumentError(
        fmt::format("must be more than zero: \"{}\"", text));
  return duration;
}

inline CLI::Validator DurationCheck() {
  return CheckedBy(ParseDuration, "DURATION");
}
inline CLI::Validator GrpcDurationCheck() {
  return CheckedBy(ParseGrpcDuration, "DURATION");
}

}  // namespace sentencekv
