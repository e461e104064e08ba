// What CLI11 checks the values of flags with, made of parsers (flag_values.h).
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace sentencekv {

// Accepts what `parse`, from text to a StatusOr, accepts.
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
CLI::Validator SizeWithin(int64_t minimum, int64_t maximum);
CLI::Validator DurationCheck();
// More than zero.
CLI::Validator PositiveDurationCheck();
// Fits the milliseconds of a gRPC channel argument.
CLI::Validator GrpcDurationCheck();
// Where metrics are served: TCP, or empty for nowhere.
CLI::Validator MetricsAddressCheck();

}  // namespace sentencekv
