#include "server/client/bench_load.h"

#include <algorithm>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace sentencekv {
namespace {

using Seconds = std::chrono::duration<double>;

// What the client threads share. Thread-safe.
class LoadRun {
 public:
  explicit LoadRun(const BenchLoad& load) : load_(load) {
    std::mt19937_64 random(load.seed);
    std::exponential_distribution<double> gap(
        std::max(load.rate_per_second, 1e-9));
    double at = 0;
    for (int i = 0; i < load.num_requests; ++i) {
      arrivals_.push_back(Seconds(at));
      if (load.rate_per_second > 0) at += gap(random);
    }
    answers_.resize(load.num_requests);
    live_.resize(load.concurrency + 1);
  }

  void Run(BenchResult* result);
  // Ends the streams that live, and begins no more.
  void Stop();

 private:
  void RunClient(int client);
  void RunIntruder(BenchResult* result);
  // Waits for the arrival time of a request; false when stopped before.
  bool AwaitArrival(int index);
  // Takes the next request for a client; nothing when none is left.
  std::optional<int> TakeRequest();
  // Sends as client number `slot`, so that Stop reaches the call.
  Answer Send(ServerConnection& server, int slot,
              const v1::GenerateRequest& request,
              const std::function<void(std::string_view)>& on_text);
  void CountFirstToken() {
    absl::MutexLock lock(&mutex_);
    ++first_tokens_;
  }

  const BenchLoad& load_;
  std::vector<Seconds> arrivals_;  // since started_
  SteadyTime started_;
  absl::Mutex mutex_;
  int next_request_ ABSL_GUARDED_BY(mutex_) = 0;
  int first_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  int clients_done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  // The call of each client, and last of the intruder; null between calls.
  std::vector<grpc::ClientContext*> live_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::optional<Answer>> answers_ ABSL_GUARDED_BY(mutex_);
};

std::optional<int> LoadRun::TakeRequest() {
  absl::MutexLock lock(&mutex_);
  if (stopped_ || next_request_ >= load_.num_requests) return std::nullopt;
  return next_request_++;
}

bool LoadRun::AwaitArrival(int index) {
  const Seconds wait =
      started_ + arrivals_[index] - std::chrono::steady_clock::now();
  absl::MutexLock lock(&mutex_);
  if (wait.count() > 0) {
    mutex_.AwaitWithTimeout(absl::Condition(&stopped_),
                            absl::Seconds(wait.count()));
  }
  return !stopped_;
}

Answer LoadRun::Send(ServerConnection& server, int slot,
                     const v1::GenerateRequest& request,
                     const std::function<void(std::string_view)>& on_text) {
  const auto context = server.NewContext();
  {
    absl::MutexLock lock(&mutex_);
    live_[slot] = context.get();
    if (stopped_) context->TryCancel();
  }
  Answer answer = ReadAnswer(server.stub(), *context, request, on_text);
  absl::MutexLock lock(&mutex_);
  live_[slot] = nullptr;
  return answer;
}

void LoadRun::RunClient(int client) {
  ServerConnection server(load_.connection);
  server.AwaitConnected();
  bool had_first_token = false;
  while (const std::optional<int> index = TakeRequest()) {
    const v1::GenerateRequest request = load_.make_request(*index);
    if (!AwaitArrival(*index)) break;
    Answer answer = Send(server, client, request, [&](std::string_view) {
      if (!had_first_token) CountFirstToken();
      had_first_token = true;
    });
    absl::MutexLock lock(&mutex_);
    answers_[*index] = std::move(answer);
  }
  absl::MutexLock lock(&mutex_);
  ++clients_done_;
}

void LoadRun::RunIntruder(BenchResult* result) {
  {
    // Streams must be under way before a gap in them means anything.
    absl::MutexLock lock(&mutex_);
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopped_ || first_tokens_ == load_.concurrency ||
             clients_done_ == load_.concurrency;
    };
    mutex_.Await(absl::Condition(&ready));
    mutex_.AwaitWithTimeout(absl::Condition(&stopped_),
                            absl::Seconds(load_.intrude_after_seconds));
    if (stopped_) return;
  }
  ServerConnection server(load_.connection);
  server.AwaitConnected();
  result->intruder = Send(server, load_.concurrency, *load_.intruder, nullptr);
  Stop();
}

void LoadRun::Run(BenchResult* result) {
  started_ = std::chrono::steady_clock::now();
  result->started = started_;
  std::vector<std::jthread> threads;
  for (int client = 0; client < load_.concurrency; ++client) {
    threads.emplace_back([this, client] { RunClient(client); });
  }
  if (load_.intruder.has_value()) RunIntruder(result);
  threads.clear();  // joins
  result->ended = std::chrono::steady_clock::now();
  absl::MutexLock lock(&mutex_);
  for (std::optional<Answer>& answer : answers_) {
    if (answer.has_value()) result->answers.push_back(std::move(*answer));
  }
}

void LoadRun::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
  for (grpc::ClientContext* context : live_) {
    if (context != nullptr) context->TryCancel();
  }
}

}  // namespace

BenchResult RunBenchLoad(const BenchLoad& load, Interrupt& interrupt) {
  BenchResult result;
  if (load.num_warmup > 0) {
    ServerConnection server(load.connection);
    for (int i = 0; i < load.num_warmup; ++i) {
      const auto context = server.NewContext();
      ReadAnswer(server.stub(), *context, load.make_request(i), nullptr);
    }
  }
  LoadRun run(load);
  const Interrupt::Scope on_interrupt(interrupt, [&] {
    result.interrupted = true;
    run.Stop();
  });
  run.Run(&result);
  return result;
}

}  // namespace sentencekv
