#include "server/flag_values.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

namespace sentencekv {
namespace {

// Longest path that fits sockaddr_un, with its terminating zero.
constexpr size_t kMaxUnixPath = 107;

// Number of bytes one unit of `suffix` stands for; 0 when it is not a suffix.
int64_t SuffixFactor(std::string_view suffix) {
  std::string lower;
  for (char c : suffix)
    lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (lower.empty() || lower == "b") return 1;
  constexpr std::string_view kLetters = "kmgt";
  const size_t index = kLetters.find(lower[0]);
  if (index == std::string_view::npos) return 0;
  const std::string_view rest = std::string_view(lower).substr(1);
  if (!rest.empty() && rest != "b" && rest != "ib") return 0;
  return int64_t{1} << (10 * (index + 1));
}

absl::Status SizeError(std::string_view text) {
  return absl::InvalidArgumentError(fmt::format(
      "not a size in bytes such as 4096, 512MiB or 2G: \"{}\"", text));
}

}  // namespace

absl::StatusOr<int64_t> ParseByteSize(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] =
      std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || number < 0)
    return SizeError(text);
  const int64_t factor =
      SuffixFactor(std::string_view(rest, static_cast<size_t>(end - rest)));
  if (factor == 0) return SizeError(text);
  const double bytes = number * static_cast<double>(factor);
  // 2^62: far above any machine, and exact as a double.
  if (bytes > 0x1p62) return SizeError(text);
  return static_cast<int64_t>(bytes);
}

absl::StatusOr<absl::Duration> ParseDuration(std::string_view text) {
  const std::string value(text);
  double seconds = 0;
  const char* end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, seconds);
  absl::Duration duration;
  if (error == std::errc() && rest == end) {
    if (std::isfinite(seconds)) {
      duration = absl::Seconds(seconds);
    } else {
      duration = absl::InfiniteDuration();
    }
  } else if (!absl::ParseDuration(value, &duration)) {
    duration = absl::InfiniteDuration();
  }
  if (duration < absl::ZeroDuration() || duration == absl::InfiniteDuration())
    return absl::InvalidArgumentError(fmt::format(
        "not a duration such as 30, 250ms or 2m30s: \"{}\"", value));
  return duration;
}

bool ListenAddress::is_loopback() const {
  return is_unix() || host == "localhost" || host == "::1" ||
         host.rfind("127.", 0) == 0;
}

std::string ListenAddress::ToString(int actual_port) const {
  if (is_unix()) return "unix:" + unix_path;
  if (host.find(':') != std::string::npos)
    return fmt::format("[{}]:{}", host, actual_port);
  return fmt::format("{}:{}", host, actual_port);
}

absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text) {
  const auto error = [&](std::string_view why) {
    return absl::InvalidArgumentError(fmt::format(
        "not HOST:PORT, [IPV6]:PORT or unix:PATH ({}): \"{}\"", why, text));
  };
  ListenAddress address;
  constexpr std::string_view kUnix = "unix:";
  if (text.substr(0, kUnix.size()) == kUnix) {
    address.unix_path = text.substr(kUnix.size());
    if (address.unix_path.empty()) return error("empty path");
    if (address.unix_path.size() > kMaxUnixPath) return error("path too long");
    return address;
  }
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return error("no port");
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return error("an IPv6 address needs brackets");
  }
  if (host.empty()) return error("no host");
  const char* end = port.data() + port.size();
  const auto [rest, code] = std::from_chars(port.data(), end, address.port);
  if (port.empty() || code != std::errc() || rest != end || address.port < 0 ||
      address.port > std::numeric_limits<uint16_t>::max())
    return error("the port is not 0..65535");
  address.host = host;
  return address;
}

absl::Status WithFlag(const char* flag, const absl::Status& status) {
  return absl::Status(
      status.code(),
      fmt::format("{}: {}", flag, std::string(status.message())));
}

}  // namespace sentencekv
