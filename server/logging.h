// The process's log: one line per event on stderr, as text for people or as
// JSON for collectors. Prompt and answer text is never logged.
//
// Everything that logs through spdlog comes out in the chosen format; lines of
// the server carry fields beside their message (LogEvent).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/statusor.h"
#include "spdlog/common.h"
#include "spdlog/sinks/sink.h"

namespace sentencekv {

enum class LogFormat : uint8_t { kText, kJson };

// "text" or "json"; kInvalidArgument otherwise.
absl::StatusOr<LogFormat> ParseLogFormat(std::string_view name);
// "trace", "debug", "info", "warning", "error", "off"; kInvalidArgument
// otherwise.
absl::StatusOr<spdlog::level::level_enum> ParseLogLevel(std::string_view name);

// Makes the default logger of the process. `sink` receives the lines; null
// means stderr. Call before other threads log.
void InitLogging(spdlog::level::level_enum level, LogFormat format,
                 std::shared_ptr<spdlog::sinks::sink> sink = nullptr);

// One field of a line. Text is borrowed for the duration of the call.
struct LogField {
  using Value = std::variant<std::string_view, int64_t, double, bool>;
  std::string_view name;
  Value value;
};

// Logs `message` (a fixed text) with fields. Any thread. Bytes that would break
// a line, or the JSON, are escaped.
void LogEvent(spdlog::level::level_enum level, std::string_view message,
              std::initializer_list<LogField> fields);

}  // namespace sentencekv
