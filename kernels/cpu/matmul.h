// Matrix products on the worker pool: prepares the activations, cuts the
// output into tiles, and runs a level's kernels on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/op_params.h"

namespace sentencekv {

// Not thread-safe: used by the thread that uses the backend.
class MatMulRunner {
 public:
  // Both must outlive the runner.
  MatMulRunner(const CpuKernels& kernels, WorkerPool& pool)
      : kernels_(kernels), pool_(pool) {}

  // REQUIRES: checked arguments, at least one row. kResourceExhausted when
  // there is no memory for the prepared activations.
  absl::Status Run(const MatMulParams& params);

 private:
  // Prepared activations of one product. Workers left behind by a job may
  // still read its activations, so a new product takes a buffer that no job
  // reads; there are never more than threads + 1.
  struct Activations {
    GrowingMemory memory;
    uint32_t job_number = 0;
  };

  Activations& FreeActivations();
  void Prepare(const MatMulParams& params, std::byte* activations);

  const CpuKernels& kernels_;
  WorkerPool& pool_;
  std::vector<Activations> activations_;
};

}  // namespace sentencekv
