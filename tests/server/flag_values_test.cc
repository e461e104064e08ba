#include "server/flag_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sentencekv {
namespace {

using ::testing::HasSubstr;

TEST(ParseByteSize, TakesNumbersWithSuffixes) {
  const std::pair<const char*, int64_t> cases[] = {{"0", 0},
                                                   {"4096", 4096},
                                                   {"1K", 1024},
                                                   {"1k", 1024},
                                                   {"1KB", 1024},
                                                   {"1KiB", 1024},
                                                   {"512MiB", 512ll << 20},
                                                   {"2G", 2ll << 30},
                                                   {"1.5GiB", 3ll << 29},
                                                   {"1T", 1ll << 40},
                                                   {"17B", 17}};
  for (const auto& [text, bytes] : cases) {
    const absl::StatusOr<int64_t> parsed = ParseByteSize(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(*parsed, bytes) << text;
  }
}

TEST(ParseByteSize, RefusesEverythingElse) {
  for (const char* text :
       {"", "-1", "abc", "1X", "1KiX", "1 K", " 1", "1e3", "nan", "inf",
        "99999999999999999999T", "0x10", "1iB"}) {
    const absl::StatusOr<int64_t> parsed = ParseByteSize(text);
    EXPECT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(text));
  }
}

TEST(ParseDuration, TakesSecondsAndUnits) {
  const std::pair<const char*, absl::Duration> cases[] = {
      {"0", absl::ZeroDuration()},   {"30", absl::Seconds(30)},
      {"1.5", absl::Seconds(1.5)},   {"250ms", absl::Milliseconds(250)},
      {"2m30s", absl::Seconds(150)}, {"1h", absl::Hours(1)}};
  for (const auto& [text, duration] : cases) {
    const absl::StatusOr<absl::Duration> parsed = ParseDuration(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(*parsed, duration) << text;
  }
}

TEST(ParseDuration, RefusesEverythingElse) {
  for (const char* text :
       {"", "-1", "-5s", "abc", "1x", "nan", "inf", "1e999", "30 s", "infs"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

struct AddressCase {
  const char* text;
  const char* host;
  int port;
  bool loopback;
};

TEST(ParseListenAddress, TakesHostsAndPorts) {
  const AddressCase cases[] = {{"127.0.0.1:50051", "127.0.0.1", 50051, true},
                               {"localhost:0", "localhost", 0, true},
                               {"[::1]:80", "::1", 80, true},
                               {"127.9.9.9:65535", "127.9.9.9", 65535, true},
                               {"0.0.0.0:1", "0.0.0.0", 1, false},
                               {"[::]:1", "::", 1, false},
                               {"example.org:9", "example.org", 9, false}};
  for (const AddressCase& c : cases) {
    const absl::StatusOr<ListenAddress> address = ParseListenAddress(c.text);
    ASSERT_TRUE(address.ok()) << c.text;
    EXPECT_EQ(address->host, c.host);
    EXPECT_EQ(address->port, c.port);
    EXPECT_EQ(address->is_loopback(), c.loopback) << c.text;
    EXPECT_EQ(address->ToString(), c.text);
  }
}

TEST(ParseListenAddress, TakesUnixSockets) {
  const absl::StatusOr<ListenAddress> address =
      ParseListenAddress("unix:/run/a.sock");
  ASSERT_TRUE(address.ok());
  EXPECT_TRUE(address->is_unix());
  EXPECT_TRUE(address->is_loopback());
  EXPECT_EQ(address->ToString(5), "unix:/run/a.sock");
}

TEST(ParseListenAddress, RefusesEverythingElse) {
  const std::string long_path = "unix:/" + std::string(107, 'a');
  for (const char* text :
       {"", "localhost", ":80", "[]:80", "host:", "host:65536", "host:-1",
        "host:8o", "::1:80", "unix:", "host:80 ", long_path.c_str()}) {
    const absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    EXPECT_FALSE(address.ok()) << text;
    EXPECT_THAT(std::string(address.status().message()), HasSubstr(text));
  }
}

TEST(ListenAddress, ShowsTheActualPort) {
  const ListenAddress address = {.host = "::1", .port = 0};
  EXPECT_EQ(address.ToString(4711), "[::1]:4711");
}

}  // namespace
}  // namespace sentencekv
