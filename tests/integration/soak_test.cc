// Requests that end in every way there is leave nothing behind:
// pages, memory, threads. SENTENCEKV_SOAK_REQUESTS sets how many (default
// 1,000; tests/nightly.sh runs 10,000), SENTENCEKV_SOAK_SEED the random seed.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <random>
#include <thread>

#include "tests/integration/server_process.h"
#include "tests/support/sanitized.h"
#include "tests/support/test_files.h"
#include "tests/support/tiny_model.h"

namespace sentencekv {
namespace {

constexpr int kClients = 16;
// What leaks grows in every round. Pools of threads and allocators grow in some
// of them, the first ones most.
constexpr int kRounds = 4;
constexpr int64_t kMaxBytesARequest = 1024;
constexpr int64_t kNoiseBytes = 512 << 10;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::atoll(value) : otherwise;
}

// How a client ends a request.
enum class Ending {
  kWait,        // reads to the end
  kCancelCall,  // after some messages
  kDeadline,    // sets one that may or may not pass
  kCancelById,  // from another connection
  kDisconnect,  // a process that is killed
  kInvalid,     // never accepted
};

class SoakClient {
 public:
  SoakClient(ServerProcess& server, uint64_t seed)
      : server_(server), connection_(server.Connect()), random_(seed) {}

  void RunOne(int64_t number) {
    switch (Choose()) {
      case Ending::kWait:
        return Expect({grpc::StatusCode::OK}, Read(Request(), Forever()));
      case Ending::kCancelCall:
        return CancelAfter(Below(6));
      case Ending::kDeadline:
        return Expect(
            {grpc::StatusCode::OK, grpc::StatusCode::DEADLINE_EXCEEDED},
            Read(Request(), Deadline(Below(40))));
      case Ending::kCancelById:
        return CancelById("soak-" + std::to_string(number));
      case Ending::kDisconnect:
        return Disconnect();
      case Ending::kInvalid:
        return Expect({grpc::StatusCode::INVALID_ARGUMENT},
                      Read(v1::GenerateRequest(), Forever()));
    }
  }

 private:
  using Context = std::unique_ptr<grpc::ClientContext>;

  int64_t Below(int64_t bound) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(bound));
  }
  Ending Choose() {
    const int64_t dice = Below(200);
    if (dice < 70) return Ending::kWait;
    if (dice < 120) return Ending::kCancelCall;
    if (dice < 160) return Ending::kDeadline;
    if (dice < 180) return Ending::kCancelById;
    if (dice < 182) return Ending::kDisconnect;
    return Ending::kInvalid;
  }
  v1::GenerateRequest Request() {
    std::vector<int32_t> prompt(1 + Below(100));
    for (int32_t& id : prompt) id = static_cast<int32_t>(Below(200));
    return GreedyRequest(prompt, static_cast<int32_t>(1 + Below(60)));
  }
  Context Forever() { return connection_->NewContext(); }
  Context Deadline(int64_t milliseconds) {
    Context context = connection_->NewContext();
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::milliseconds(milliseconds));
    return context;
  }
  grpc::StatusCode Read(const v1::GenerateRequest& request,
                        const Context& context) {
    return ReadAnswer(connection_->stub(), *context, request, nullptr)
        .status.error_code();
  }
  static void Expect(const std::vector<grpc::StatusCode>& expected,
                     grpc::StatusCode code) {
    for (const grpc::StatusCode one : expected) {
      if (one == code) return;
    }
    ADD_FAILURE() << "status " << code;
  }

  void CancelAfter(int64_t messages) {
    const Context context = Forever();
    const auto reader = connection_->stub().Generate(context.get(), Request());
    v1::GenerateResponse message;
    while (messages-- > 0 && reader->Read(&message)) {
    }
    context->TryCancel();
    while (reader->Read(&message)) {
    }
    Expect({grpc::StatusCode::OK, grpc::StatusCode::CANCELLED},
           reader->Finish().error_code());
  }

  void CancelById(const std::string& id) {
    v1::GenerateRequest request = Request();
    request.set_request_id(id);
    const Context context = Forever();
    const auto reader = connection_->stub().Generate(context.get(), request);
    v1::GenerateResponse message;
    reader->Read(&message);
    v1::CancelRequest cancel;
    cancel.set_request_id(id);
    v1::CancelResponse cancelled;
    const auto other = server_.connection().NewContext();
    server_.connection().stub().Cancel(other.get(), cancel, &cancelled);
    while (reader->Read(&message)) {
    }
    Expect({grpc::StatusCode::OK, grpc::StatusCode::CANCELLED},
           reader->Finish().error_code());
  }

  // The connection breaks without a word.
  void Disconnect() {
    const std::string folder = MakeTempDir();
    ChildProcess client(
        {SENTENCEKV_CLIENT_BINARY, "generate", "--server", server_.address(),
         "--prompt-ids", "5,6,7", "--ignore-eos", "--max-tokens", "400"},
        "", folder + "/out", folder + "/err");
    while (client.Runs() && ReadWholeFile(folder + "/out").empty()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    client.Signal(SIGKILL);
    client.Wait();
  }

  ServerProcess& server_;
  const std::unique_ptr<ServerConnection> connection_;
  std::mt19937_64 random_;
};

void RunRequests(ServerProcess& server, int64_t count, uint64_t seed) {
  std::atomic<int64_t> next = 0;
  std::vector<std::jthread> threads;
  for (int client = 0; client < kClients; ++client) {
    threads.emplace_back([&, client] {
      SoakClient soak(server, seed * 1000 + client);
      while (true) {
        const int64_t number = next++;
        if (number >= count) return;
        soak.RunOne(static_cast<int64_t>(seed) * count + number);
      }
    });
  }
}

// Memory and threads of the server between two looks at it.
struct Growth {
  int64_t bytes = std::numeric_limits<int64_t>::max();
  int64_t threads = std::numeric_limits<int64_t>::max();
};

Growth Between(const v1::GetStatsResponse& before,
               const v1::GetStatsResponse& after) {
  return {static_cast<int64_t>(after.resident_bytes()) -
              static_cast<int64_t>(before.resident_bytes()),
          static_cast<int64_t>(after.threads()) -
              static_cast<int64_t>(before.threads())};
}

TEST(Soak, NothingIsLeftBehind) {
  const int64_t count = FromEnvironment("SENTENCEKV_SOAK_REQUESTS", 1000);
  const uint64_t seed = FromEnvironment("SENTENCEKV_SOAK_SEED", 1);
  std::printf("%ld requests, seed %lu\n", static_cast<long>(count),
              static_cast<unsigned long>(seed));
  // A pool that remembered prompts fill in no time.
  ServerProcess server(
      WriteTinyGguf(MakeTinyModel({})),
      {"--threads", "1", "--log_level", "warning", "--kv_host_memory", "2MiB"});
  const int64_t pages_free = server.Stats().kv_pages_free();
  ASSERT_GT(pages_free, 0);
  Growth least;
  v1::GetStatsResponse before = server.AwaitIdle();
  for (int round = 0; round < kRounds; ++round) {
    RunRequests(server, count / kRounds, seed + round);
    const v1::GetStatsResponse after = server.AwaitIdle();
    EXPECT_EQ(after.kv_pages_free(), pages_free);
    EXPECT_EQ(after.kv_pages_used(), 0);
    const Growth growth = Between(before, after);
    std::printf("round %d: memory %+ld to %ld bytes, threads %+ld to %ld\n",
                round, static_cast<long>(growth.bytes),
                static_cast<long>(after.resident_bytes()),
                static_cast<long>(growth.threads),
                static_cast<long>(after.threads()));
    least.bytes = std::min(least.bytes, growth.bytes);
    least.threads = std::min(least.threads, growth.threads);
    before = after;
  }
  // Sanitizers keep memory of their own, and find leaks themselves.
  if (!kIsSanitized) {
    EXPECT_LE(least.bytes, kNoiseBytes + count / kRounds * kMaxBytesARequest);
  }
  EXPECT_LE(least.threads, 0);
  EXPECT_EQ(server.Stop(), 0) << server.log();
}

}  // namespace
}  // namespace sentencekv
