#include "server/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"

namespace sentencekv {
namespace {

using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

class LoggingTest : public ::testing::Test {
 protected:
  void Init(LogFormat format,
            spdlog::level::level_enum level = spdlog::level::info) {
    InitLogging(level, format,
                std::make_shared<spdlog::sinks::ostream_sink_mt>(lines_));
  }
  void TearDown() override {
    InitLogging(spdlog::level::info, LogFormat::kText);
  }
  std::ostringstream lines_;
};

TEST_F(LoggingTest, TextHasTimeLevelMessageAndFields) {
  Init(LogFormat::kText);
  LogEvent(spdlog::level::warn, "request finished",
           {{"request_id", "r-1"},
            {"tokens", int64_t{7}},
            {"total_ms", 1.5},
            {"clean", true},
            {"peer", "ipv4:1 2"},
            {"empty", ""}});
  EXPECT_THAT(lines_.str(),
              ContainsRegex("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[.][0-9]{3}Z "
                            "warning request finished request_id=r-1"));
  EXPECT_THAT(lines_.str(),
              EndsWith(" request_id=r-1 tokens=7 total_ms=1.5 clean=true "
                       "peer=\"ipv4:1 2\" empty=\"\"\n"));
}

TEST_F(LoggingTest, JsonIsOneObjectPerLine) {
  Init(LogFormat::kJson);
  LogEvent(spdlog::level::info, "request accepted",
           {{"request_id", "r\"\n\x01\xFF"},
            {"tokens", int64_t{-7}},
            {"total_ms", 0.25},
            {"nan", std::numeric_limits<double>::quiet_NaN()},
            {"clean", false}});
  spdlog::info("from \"elsewhere\"\nsecond {}", 1);
  std::istringstream in(lines_.str());
  std::string line;
  ASSERT_TRUE(std::getline(in, line));
  const nlohmann::json first = nlohmann::json::parse(line);
  EXPECT_EQ(first["level"], "info");
  EXPECT_EQ(first["message"], "request accepted");
  EXPECT_EQ(first["request_id"], "r\"\n\x01\xEF\xBF\xBD");
  EXPECT_EQ(first["tokens"], -7);
  EXPECT_EQ(first["total_ms"], 0.25);
  EXPECT_TRUE(first["nan"].is_null());
  EXPECT_EQ(first["clean"], false);
  EXPECT_THAT(first["time"].get<std::string>(), EndsWith("Z"));
  ASSERT_TRUE(std::getline(in, line));
  const nlohmann::json second = nlohmann::json::parse(line);
  EXPECT_EQ(second["message"], "from \"elsewhere\"\nsecond 1");
  // Fields belong to one line only.
  EXPECT_FALSE(second.contains("request_id"));
  EXPECT_FALSE(std::getline(in, line));
}

TEST_F(LoggingTest, TextStaysOnItsLine) {
  Init(LogFormat::kText);
  LogEvent(spdlog::level::info, "two\nlines", {{"id", "a\nb=c"}});
  EXPECT_THAT(lines_.str(), EndsWith(" info two lines id=\"a\\nb=c\"\n"));
}

TEST_F(LoggingTest, LeavesOutWhatIsBelowTheLevel) {
  Init(LogFormat::kText, spdlog::level::warn);
  LogEvent(spdlog::level::info, "quiet", {});
  LogEvent(spdlog::level::err, "loud", {});
  EXPECT_THAT(lines_.str(), Not(HasSubstr("quiet")));
  EXPECT_THAT(lines_.str(), HasSubstr("error loud"));
}

TEST(ParseLog, KnowsItsNames) {
  EXPECT_EQ(*ParseLogFormat("json"), LogFormat::kJson);
  EXPECT_FALSE(ParseLogFormat("yaml").ok());
  EXPECT_EQ(*ParseLogLevel("warning"), spdlog::level::warn);
  EXPECT_EQ(*ParseLogLevel("off"), spdlog::level::off);
  EXPECT_FALSE(ParseLogLevel("loud").ok());
}

}  // namespace
}  // namespace sentencekv
