// Graphs by capture: what is submitted to captured streams is written down, and
// submitted again at every launch of the graph.
#pragma once

#include <memory>

#include "tests/support/cuda_sim/operation_queue.h"

namespace cuda_sim {

bool IsAnyCapturing();
bool IsCapturing(cudaStream_t stream);

void CaptureWork(cudaStream_t stream, std::shared_ptr<const Work> work);
std::shared_ptr<Point> CaptureRecord(cudaStream_t stream);
// A stream that waits for a captured event takes part in its capture.
cudaError_t CaptureWait(cudaStream_t stream, const Point& point);

void ResetGraphs();
int64_t LiveGraphs();

}  // namespace cuda_sim
