// A thread that prepares the memory of a page pool before it is used.
//
// The system puts memory behind an address when it is first written: 5 ms were
// seen for a huge page of a virtual machine. Pages lie in every layer, so a
// step that takes a new one would wait that long for each layer at once.
#pragma once

#include <cstdint>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kernels/backend.h"
#include "kernels/kv_layout.h"

namespace sentencekv {

class MemoryPreparer {
 public:
  // Starts the thread. `backend` and `pool`, memory of layout.total_bytes(),
  // must outlive the preparer.
  MemoryPreparer(Backend& backend, const KvLayout& layout, std::byte* pool);
  // Stops and joins it.
  ~MemoryPreparer();
  MemoryPreparer(const MemoryPreparer&) = delete;
  MemoryPreparer& operator=(const MemoryPreparer&) = delete;

  // Pages 0..num_pages-1 will be used soon: they and some more are prepared,
  // lowest first. Costs next to nothing. Any thread.
  void Expect(int64_t num_pages);
  // Waits until all that is expected is prepared. For tests.
  void Wait();

 private:
  void Run();
  void PreparePiece(int64_t begin_bytes, int64_t end_bytes);
  // Bytes of each layer to have prepared.
  int64_t Goal() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Backend& backend_;
  const KvLayout layout_;
  std::byte* const pool_;
  absl::Mutex mutex_;
  int64_t expected_pages_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t prepared_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of each layer
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: uses the others
};

}  // namespace sentencekv
