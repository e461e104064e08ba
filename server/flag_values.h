// Values of flags that are more than a number: sizes, durations, addresses.
// Pure functions, any thread. Errors are kInvalidArgument and contain the
// value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sentencekv {

// "4096", "512MiB", "2G": a whole or decimal number of bytes with an optional
// suffix K, M, G or T (binary, 1 K = 1024), followed by nothing, "B" or "iB".
absl::StatusOr<int64_t> ParseByteSize(std::string_view text);

// "30" or "1.5" (seconds), "250ms", "2m30s", "1h". Never negative, finite.
absl::StatusOr<absl::Duration> ParseDuration(std::string_view text);

// Where a server listens: HOST:PORT, [IPV6]:PORT or unix:PATH.
struct ListenAddress {
  std::string host;       // without brackets; "" for unix
  int port = 0;           // 0..65535; 0 lets the system choose
  std::string unix_path;  // "" for TCP

  bool is_unix() const { return !unix_path.empty(); }
  // Only this machine can connect: 127.0.0.0/8, ::1, "localhost" or unix.
  bool is_loopback() const;
  // As gRPC and people write it; `actual_port` replaces the port.
  std::string ToString(int actual_port) const;
  std::string ToString() const { return ToString(port); }
};

absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text);

// The same error, told of this flag ("--kv_policy").
absl::Status WithFlag(const char* flag, const absl::Status& status);

}  // namespace sentencekv
