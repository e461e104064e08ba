// SIGTERM and SIGINT, received on a thread of their own: nothing of ours runs
// inside a signal handler.
#pragma once

#include <functional>
#include <thread>

namespace sentencekv {

class ShutdownSignals {
 public:
  // Blocks both signals for the calling thread and every thread it starts from
  // now on, so construct this first in main. `on_signal` is called on the own
  // thread with the signal's number and its count, from 1.
  explicit ShutdownSignals(
      std::function<void(int signal, int count)> on_signal);
  // Signals stay blocked.
  ~ShutdownSignals();
  ShutdownSignals(const ShutdownSignals&) = delete;
  ShutdownSignals& operator=(const ShutdownSignals&) = delete;

 private:
  void Run();

  std::function<void(int signal, int count)> on_signal_;
  int signal_fd_;
  int stop_fd_;  // eventfd: readable when the thread is to end
  std::thread thread_;
};

}  // namespace sentencekv
