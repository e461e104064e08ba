// Tells ThreadSanitizer of the order that absl's locks make.
//
// The distribution's absl is built without ThreadSanitizer, which therefore
// sees neither its locks nor what they order, and reports every guarded member
// as a race. The linker sends our own calls of absl's locks through the
// functions below (--wrap, in the top CMakeLists.txt), which add what is
// missing: leaving a lock is a release, entering it an acquire. Nothing is
// suppressed by this: a member that is read outside of its lock is still
// reported.
//
// absl evaluates the Condition of a waiting thread on whichever thread leaves
// the lock, while that still holds it but after our release. Reads inside these
// calls are ignored for that reason; they are all made under the lock.
//
// Linked into every program of a ThreadSanitizer build, and into no other.
#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

using absl::Condition;
using absl::CondVar;
using absl::Duration;
using absl::Mutex;
using absl::Notification;
using absl::Time;

extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}

namespace {

// Leaves the lock, or wakes those who wait for it.
struct Leaving {
  explicit Leaving(const void* lock) {
    __tsan_release(const_cast<void*>(lock));
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  }
  ~Leaving() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
};

// Enters the lock.
struct Entering {
  explicit Entering(const void* lock) : lock(const_cast<void*>(lock)) {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  }
  ~Entering() {
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    __tsan_acquire(lock);
  }
  void* const lock;
};

// Leaves the lock while it waits.
struct Waiting {
  explicit Waiting(const void* lock) : entering(lock) {
    __tsan_release(const_cast<void*>(lock));
  }
  Entering entering;
};

}  // namespace

// Defines __wrap_SYMBOL, a member function `Result F(this, parameters)` that
// calls the real one inside Guard(lock).
#define SKV_WRAP(Guard, Result, symbol, lock, parameters, arguments) \
  extern "C" Result __real_##symbol parameters;                      \
  extern "C" Result __wrap_##symbol parameters {                     \
    const Guard guard(lock);                                         \
    return __real_##symbol arguments;                                \
  }

// A failed try orders nothing, but saying that it does only hides races of the
// one who failed, which does not go on to touch what is guarded.
SKV_WRAP(Entering, void, _ZN4absl7debian35Mutex4LockEv, self, (Mutex * self),
         (self))
SKV_WRAP(Entering, bool, _ZN4absl7debian35Mutex7TryLockEv, self, (Mutex * self),
         (self))
SKV_WRAP(Entering, void, _ZN4absl7debian35Mutex10ReaderLockEv, self,
         (Mutex * self), (self))
SKV_WRAP(Entering, void, _ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE,
         self, (Mutex * self, const Condition* condition), (self, condition))
SKV_WRAP(Leaving, void, _ZN4absl7debian35Mutex6UnlockEv, self, (Mutex * self),
         (self))
SKV_WRAP(Leaving, void, _ZN4absl7debian35Mutex12ReaderUnlockEv, self,
         (Mutex * self), (self))
SKV_WRAP(Waiting, void, _ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE, self,
         (Mutex * self, const Condition* condition), (self, condition))
SKV_WRAP(
    Waiting, bool,
    _ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE,
    self, (Mutex * self, const Condition* condition, Duration timeout),
    (self, condition, timeout))
SKV_WRAP(Waiting, bool,
         _ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE,
         self, (Mutex * self, const Condition* condition, Time deadline),
         (self, condition, deadline))
SKV_WRAP(Waiting, void, _ZN4absl7debian37CondVar4WaitEPNS0_5MutexE, mutex,
         (CondVar * self, Mutex* mutex), (self, mutex))
SKV_WRAP(Waiting, bool,
         _ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE,
         mutex, (CondVar * self, Mutex* mutex, Duration timeout),
         (self, mutex, timeout))
SKV_WRAP(Waiting, bool,
         _ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE,
         mutex, (CondVar * self, Mutex* mutex, Time deadline),
         (self, mutex, deadline))

SKV_WRAP(Leaving, void, _ZN4absl7debian312Notification6NotifyEv, self,
         (Notification * self), (self))
SKV_WRAP(Entering, void, _ZNK4absl7debian312Notification19WaitForNotificationEv,
         self, (const Notification* self), (self))
SKV_WRAP(
    Entering, bool,
    _ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE,
    self, (const Notification* self, Duration timeout), (self, timeout))
