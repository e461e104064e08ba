// Ctrl-C as a dependency: what it does depends on what the program is doing.
#pragma once

#include <functional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace sentencekv {

// Thread-safe.
class Interrupt {
 public:
  // While alive, Trigger calls `action` and no other. Scopes nest, and end in
  // the reverse order of their beginning. The action runs on the triggering
  // thread, never after the scope's end.
  class Scope {
   public:
    Scope(Interrupt& interrupt, std::function<void()> action);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interrupt& interrupt_;
  };

  // False when there was no action to call.
  bool Trigger();

 private:
  absl::Mutex mutex_;
  std::vector<std::function<void()>> actions_ ABSL_GUARDED_BY(mutex_);
};

// Turns SIGINT of this process into Trigger. Made by main before any other
// thread, since they inherit the blocked signal; once per process. Where
// nothing is to be interrupted the process ends by SIGINT as usual.
void WatchInterruptSignal(Interrupt& interrupt);

}  // namespace sentencekv
