#include "server/logging.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "spdlog/formatter.h"
#include "spdlog/logger.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace sentencekv {
namespace {

// Fields of the line that this thread is logging. The logger is synchronous,
// so the formatter runs on the thread that logs, inside LogEvent.
thread_local std::span<const LogField> current_fields;

// "2026-01-31T12:00:00.123Z".
std::string Timestamp(spdlog::log_clock::time_point time) {
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(
          time.time_since_epoch())
          .count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(spdlog::log_clock::to_time_t(time)),
                     milliseconds % 1000);
}

std::string_view ToStd(spdlog::string_view_t text) {
  return {text.data(), text.size()};
}

// JSON string with quotes; invalid UTF-8 becomes U+FFFD.
std::string Quoted(std::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// JSON has no infinity or NaN: null, as nlohmann writes it.
std::string JsonValue(const LogField::Value& value) {
  if (const auto* text = std::get_if<std::string_view>(&value))
    return Quoted(*text);
  if (const auto* number = std::get_if<double>(&value))
    return nlohmann::json(*number).dump();
  if (const auto* number = std::get_if<int64_t>(&value))
    return std::to_string(*number);
  return std::get<bool>(value) ? "true" : "false";
}

// key=value with quotes only where the value needs them.
std::string TextValue(const LogField::Value& value) {
  const auto* text = std::get_if<std::string_view>(&value);
  if (text == nullptr) return JsonValue(value);
  for (const char c : *text) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == '\x7f')
      return Quoted(*text);
  }
  return text->empty() ? "\"\"" : std::string(*text);
}

// Keeps a message on its line: control characters become spaces.
std::string OneLine(std::string_view message) {
  std::string line(message);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  return line;
}

void AppendTo(spdlog::memory_buf_t& out, const std::string& line) {
  out.append(line.data(), line.data() + line.size());
}

class TextFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message,
              spdlog::memory_buf_t& out) override {
    std::string line =
        fmt::format("{} {} {}", Timestamp(message.time),
                    ToStd(spdlog::level::to_string_view(message.level)),
                    OneLine(ToStd(message.payload)));
    for (const LogField& field : current_fields)
      line += fmt::format(" {}={}", field.name, TextValue(field.value));
    line += '\n';
    AppendTo(out, line);
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<TextFormatter>();
  }
};

class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message,
              spdlog::memory_buf_t& out) override {
    std::string line = fmt::format(
        R"({{"time":"{}","level":"{}","message":{})", Timestamp(message.time),
        ToStd(spdlog::level::to_string_view(message.level)),
        Quoted(ToStd(message.payload)));
    for (const LogField& field : current_fields)
      line += fmt::format(",{}:{}", Quoted(field.name), JsonValue(field.value));
    line += "}\n";
    AppendTo(out, line);
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }
};

}  // namespace

absl::StatusOr<LogFormat> ParseLogFormat(std::string_view name) {
  if (name == "text") return LogFormat::kText;
  if (name == "json") return LogFormat::kJson;
  return absl::InvalidArgumentError(
      fmt::format("log format is text or json, not \"{}\"", name));
}

absl::StatusOr<spdlog::level::level_enum> ParseLogLevel(std::string_view name) {
  if (name == "trace") return spdlog::level::trace;
  if (name == "debug") return spdlog::level::debug;
  if (name == "info") return spdlog::level::info;
  if (name == "warning") return spdlog::level::warn;
  if (name == "error") return spdlog::level::err;
  if (name == "off") return spdlog::level::off;
  return absl::InvalidArgumentError(
      fmt::format("log level is trace, debug, info, warning, error or off, "
                  "not \"{}\"",
                  name));
}

void InitLogging(spdlog::level::level_enum level, LogFormat format,
                 std::shared_ptr<spdlog::sinks::sink> sink) {
  if (sink == nullptr) sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>("sentencekv", std::move(sink));
  if (format == LogFormat::kJson) {
    logger->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger->set_formatter(std::make_unique<TextFormatter>());
  }
  logger->set_level(level);
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

void LogEvent(spdlog::level::level_enum level, std::string_view message,
              std::initializer_list<LogField> fields) {
  if (!spdlog::should_log(level)) return;
  current_fields = std::span<const LogField>(fields.begin(), fields.size());
  spdlog::log(level, spdlog::string_view_t(message.data(), message.size()));
  current_fields = {};
}

}  // namespace sentencekv
