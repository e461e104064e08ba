// What SIGTERM does to streams that run.
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <thread>
#include <vector>

#include "tests/integration/server_process.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

std::string LongContextModel() {
  TinyModelOptions options;
  options.context_length = 1 << 17;
  return WriteTinyGguf(MakeTinyModel(options));
}

// Clients that stream answers of `max_tokens` tokens at once.
class Streams {
 public:
  Streams(ServerProcess& server, int count, int32_t max_tokens)
      : answers_(count) {
    // All connections stand before the first stream begins.
    for (int i = 0; i < count; ++i) connections_.push_back(server.Connect());
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([this, i, max_tokens] {
        const auto context = connections_[i]->NewContext();
        answers_[i] =
            ReadAnswer(connections_[i]->stub(), *context,
                       GreedyRequest({5 + i, 6}, max_tokens), nullptr);
      });
    }
  }
  const std::vector<Answer>& Join() {
    threads_.clear();
    return answers_;
  }

 private:
  std::vector<std::unique_ptr<ServerConnection>> connections_;
  std::vector<Answer> answers_;
  std::vector<std::jthread> threads_;
};

TEST(Shutdown, SigtermLosesNoStream) {
  constexpr int kStreams = 16;
  constexpr int kTokens = 3000;
  ServerProcess server(LongContextModel(),
                       {"--threads", "1", "--drain_timeout", "10m"});
  Streams streams(server, kStreams, kTokens);
  // All have begun, and none can be near its end.
  server.AwaitStats([](const auto& stats) {
    return stats.running_requests() == kStreams &&
           stats.generated_tokens() >= kStreams;
  });
  server.process().Signal(SIGTERM);
  for (const Answer& answer : streams.Join()) {
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.token_ids.size(), static_cast<size_t>(kTokens));
    ASSERT_TRUE(answer.finish.has_value());
    EXPECT_EQ(answer.finish->reason(), v1::FINISH_REASON_LENGTH);
  }
  EXPECT_EQ(server.process().Wait(), 0) << server.log();
}

TEST(Shutdown, DrainThatRunsOutOfTimeCancels) {
  ServerProcess server(LongContextModel(),
                       {"--threads", "1", "--drain_timeout", "300ms"});
  Streams streams(server, 2, 100'000);
  server.AwaitStats([](const auto& s) { return s.running_requests() == 2; });
  server.process().Signal(SIGTERM);
  for (const Answer& answer : streams.Join()) {
    EXPECT_FALSE(answer.status.ok());
    EXPECT_GT(answer.token_ids.size(), 0u);
  }
  server.process().Wait();
}

TEST(Shutdown, SecondSigtermEndsAtOnce) {
  ServerProcess server(LongContextModel(),
                       {"--threads", "1", "--drain_timeout", "10m"});
  Streams streams(server, 2, 100'000);
  server.AwaitStats([](const auto& s) { return s.running_requests() == 2; });
  server.process().Signal(SIGTERM);
  server.AwaitStats([](const auto& s) { return s.draining(); });
  server.process().Signal(SIGTERM);
  server.process().Wait();
  for (const Answer& answer : streams.Join()) EXPECT_FALSE(answer.status.ok());
}

TEST(Shutdown, NewRequestsAreRefusedWhileDraining) {
  ServerProcess server(LongContextModel(),
                       {"--threads", "1", "--drain_timeout", "10m"});
  Streams streams(server, 1, 100'000);
  server.AwaitStats([](const auto& s) { return s.running_requests() == 1; });
  server.process().Signal(SIGTERM);
  server.AwaitStats([](const auto& s) { return s.draining(); });
  const auto context = server.connection().NewContext();
  const Answer refused = ReadAnswer(server.connection().stub(), *context,
                                    GreedyRequest({5}, 1), nullptr);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(server.Client("health", {}).status, 3);
  server.process().Signal(SIGTERM);
}

}  // namespace
}  // namespace sentencekv
