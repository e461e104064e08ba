// Load on a server: concurrent clients that each stream one answer after the
// other, and a long prompt that may come in beside them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "server/client/answer.h"
#include "server/client/interrupt.h"
#include "server/client/server_connection.h"

namespace sentencekv {

struct BenchLoad {
  ConnectionFlags connection;
  int concurrency = 1;
  int num_requests = 1;
  int num_warmup = 0;          // before the clock starts, one after the other
  double rate_per_second = 0;  // mean of Poisson arrivals; 0: no waiting
  uint64_t seed = 1;           // of the arrivals
  // Made by the calling thread for each request; index counts from 0.
  std::function<v1::GenerateRequest(int index)> make_request;
  // Sent once, `intrude_after_seconds` after every client has its first token.
  // Where there is one, all streams are cancelled once it has its first token.
  std::optional<v1::GenerateRequest> intruder;
  double intrude_after_seconds = 0;
};

struct BenchResult {
  std::vector<Answer> answers;  // in the order of their requests
  std::optional<Answer> intruder;
  SteadyTime started;
  SteadyTime ended;
  bool interrupted = false;  // by Ctrl-C: fewer answers than asked for
};

// Runs the load to its end. Each client is a thread with a connection of its
// own. Ctrl-C cancels what runs and starts nothing more.
BenchResult RunBenchLoad(const BenchLoad& load, Interrupt& interrupt);

}  // namespace sentencekv
