#include "server/client/interrupt.h"

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace sentencekv {
namespace {

// Ends the process the way an unhandled SIGINT does, so that a calling shell
// sees it.
void DieBySignal(const sigset_t& blocked) {
  signal(SIGINT, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
  raise(SIGINT);
}

}  // namespace

Interrupt::Scope::Scope(Interrupt& interrupt, std::function<void()> action)
    : interrupt_(interrupt) {
  absl::MutexLock lock(&interrupt_.mutex_);
  interrupt_.actions_.push_back(std::move(action));
}

Interrupt::Scope::~Scope() {
  absl::MutexLock lock(&interrupt_.mutex_);
  interrupt_.actions_.pop_back();
}

bool Interrupt::Trigger() {
  // The lock is held during the call: the scope cannot end meanwhile.
  absl::MutexLock lock(&mutex_);
  if (actions_.empty()) return false;
  actions_.back()();
  return true;
}

void WatchInterruptSignal(Interrupt& interrupt) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, &interrupt] {
    for (;;) {
      int number = 0;
      if (sigwait(&signals, &number) != 0) continue;
      if (!interrupt.Trigger()) DieBySignal(signals);
    }
  }).detach();
}

}  // namespace sentencekv
