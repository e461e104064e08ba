#include "cache/memory_preparer.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstddef>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace sentencekv {
namespace {

// A huge page of x86-64: what the system hands out at once.
constexpr int64_t kPieceBytes = int64_t{2} << 20;
// Pieces of each layer that lie ready beyond the pages expected.
constexpr int64_t kPiecesAhead = 2;
// Steps that wait for a core go first.
constexpr int kNiceness = 5;
// While nobody waits for the memory, the thread works this share of the time:
// it takes a core, and memory bandwidth, from the steps.
constexpr double kShare = 0.1;

}  // namespace

MemoryPreparer::MemoryPreparer(Backend& backend, const KvLayout& layout,
                               std::byte* pool)
    : backend_(backend),
      layout_(layout),
      pool_(pool),
      thread_([this] { Run(); }) {}

MemoryPreparer::~MemoryPreparer() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void MemoryPreparer::Expect(int64_t num_pages) {
  absl::MutexLock lock(&mutex_);
  expected_pages_ = std::max(expected_pages_, num_pages);
}

void MemoryPreparer::Wait() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](MemoryPreparer* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) {
        return self->prepared_bytes_ >= self->Goal();
      },
      this));
}

int64_t MemoryPreparer::Goal() const {
  return std::min(
      expected_pages_ * layout_.page_bytes() + kPiecesAhead * kPieceBytes,
      layout_.layer_bytes());
}

void MemoryPreparer::Run() {
  // On Linux this is the niceness of the calling thread. Advice only.
  setpriority(PRIO_PROCESS, 0, kNiceness);
  absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(
        +[](MemoryPreparer* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) {
          return self->stopping_ || self->prepared_bytes_ < self->Goal();
        },
        this));
    if (stopping_) return;
    const int64_t begin = prepared_bytes_;
    const int64_t end = std::min(begin + kPieceBytes, layout_.layer_bytes());
    mutex_.Unlock();
    PreparePiece(begin, end);
    mutex_.Lock();
    prepared_bytes_ = end;
  }
}

// The same bytes of every layer, unless the thread is to stop.
void MemoryPreparer::PreparePiece(int64_t begin_bytes, int64_t end_bytes) {
  for (int64_t layer = 0; layer < layout_.num_layers; ++layer) {
    const absl::Time begin = absl::Now();
    backend_.Prepare(pool_ + layer * layout_.layer_bytes() + begin_bytes,
                     static_cast<size_t>(end_bytes - begin_bytes));
    const absl::Duration rest = (absl::Now() - begin) * (1 / kShare - 1);
    absl::MutexLock lock(&mutex_);
    if (expected_pages_ * layout_.page_bytes() <= begin_bytes) {
      mutex_.AwaitWithTimeout(absl::Condition(&stopping_), rest);
    }
    if (stopping_) return;
  }
}

}  // namespace sentencekv
