// The runtime's streams and events, captured or not.
#pragma once

#include <memory>

#include "tests/support/cuda_sim/operation_queue.h"

namespace cuda_sim {

// Checks the stream, and submits the work or adds it to the stream's capture.
cudaError_t Submit(cudaStream_t stream, Work work);

// Runs everything, whatever comes of it.
void SynchronizeAll();

void ResetStreams();
int64_t LiveStreams();
int64_t LiveEvents();

}  // namespace cuda_sim
