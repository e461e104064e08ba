#include "tests/support/cuda_sim/runtime_graph.h"

#include <map>
#include <set>

#include "tests/support/cuda_sim/report.h"
#include "tests/support/cuda_sim/runtime_state.h"
#include "tests/support/cuda_sim/runtime_stream.h"

namespace cuda_sim {
namespace {

// What one captured stream was given, in the order of the calls. Lane 0 is the
// stream where the capture began.
struct CapturedCall {
  int lane = 0;
  std::shared_ptr<const Work> work;
  int recorded = -1;  // number of the point
  int waited = -1;
};

}  // namespace
}  // namespace cuda_sim

// The runtime's opaque graph and its executable.
struct CUgraph_st {
  std::vector<cuda_sim::CapturedCall> calls;
  int num_lanes = 1;
  int num_points = 0;
};
struct CUgraphExec_st {
  CUgraph_st graph;
  std::vector<cudaStream_t> lanes;        // of the lanes from 1
  std::shared_ptr<cuda_sim::Point> last;  // the end of the last launch
};

namespace cuda_sim {

struct Capture {
  CUgraph_st graph;
  std::vector<cudaStream_t> streams;  // by lane
  std::vector<Clock> clocks;          // by lane, of lanes
  std::vector<std::shared_ptr<Point>> points;
};

namespace {

struct Graphs {
  std::map<cudaStream_t, std::unique_ptr<Capture>> captures;  // by lane 0
  std::set<CUgraph_st*> graphs;
  std::set<CUgraphExec_st*> executables;
};

Graphs& G() {
  static Graphs graphs;
  return graphs;
}

void TakePart(Capture* capture, cudaStream_t stream) {
  stream->capture = capture;
  stream->lane = static_cast<int>(capture->streams.size());
  capture->streams.push_back(stream);
  capture->clocks.emplace_back();
  capture->graph.num_lanes = stream->lane + 1;
}

CapturedCall* Write(cudaStream_t stream) {
  Capture* capture = stream->capture;
  const auto lane = static_cast<size_t>(stream->lane);
  Clock& clock = capture->clocks[lane];
  clock.resize(std::max(clock.size(), lane + 1));
  ++clock[lane];
  CapturedCall call;
  call.lane = stream->lane;
  capture->graph.calls.push_back(std::move(call));
  return &capture->graph.calls.back();
}

// The capture ends with every lane's work before the end of lane 0.
bool AllJoined(const Capture& capture) {
  for (size_t lane = 1; lane < capture.clocks.size(); ++lane) {
    // The record that lane 0 waited for may be the last call of its lane.
    if (At(capture.clocks[0], lane) < At(capture.clocks[lane], lane)) {
      return false;
    }
  }
  return true;
}

cudaError_t EndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const auto found = G().captures.find(stream);
  if (found == G().captures.end()) {
    return Misused("cudaStreamEndCapture of a stream that began none");
  }
  const std::unique_ptr<Capture> capture = std::move(found->second);
  G().captures.erase(found);
  for (cudaStream_t part : capture->streams) part->capture = nullptr;
  for (const auto& point : capture->points) point->capture = nullptr;
  if (!AllJoined(*capture)) {
    return Misused("a captured stream is not joined at the end");
  }
  *graph = new CUgraph_st(std::move(capture->graph));
  G().graphs.insert(*graph);
  return cudaSuccess;
}

void Launch(CUgraphExec_st* executable, cudaStream_t stream) {
  // A graph never runs beside itself.
  if (executable->last != nullptr) SubmitWait(stream, executable->last);
  const std::shared_ptr<Point> begin = SubmitRecord(stream);
  for (cudaStream_t lane : executable->lanes) SubmitWait(lane, begin);
  std::vector<std::shared_ptr<Point>> points(executable->graph.num_points);
  for (const CapturedCall& call : executable->graph.calls) {
    cudaStream_t lane =
        call.lane == 0 ? stream : executable->lanes[call.lane - 1];
    if (call.work != nullptr) SubmitWork(lane, call.work);
    if (call.recorded >= 0) points[call.recorded] = SubmitRecord(lane);
    if (call.waited >= 0) SubmitWait(lane, points[call.waited]);
  }
  executable->last = SubmitRecord(stream);
}

cudaError_t CheckExecutable(cudaGraphExec_t executable) {
  return G().executables.count(executable) == 1
             ? cudaSuccess
             : Misused("a graph that was destroyed is used");
}

void Destroy(CUgraphExec_st* executable) {
  for (cudaStream_t lane : executable->lanes) EndStream(lane);
  G().executables.erase(executable);
  delete executable;
}

}  // namespace

bool IsAnyCapturing() { return !G().captures.empty(); }
bool IsCapturing(cudaStream_t stream) {
  return IsStream(stream) && stream->capture != nullptr;
}

void CaptureWork(cudaStream_t stream, std::shared_ptr<const Work> work) {
  Write(stream)->work = std::move(work);
}

std::shared_ptr<Point> CaptureRecord(cudaStream_t stream) {
  auto point = std::make_shared<Point>();
  CapturedCall* call = Write(stream);
  call->recorded = stream->capture->graph.num_points++;
  point->capture = stream->capture;
  point->captured_number = call->recorded;
  point->clock = stream->capture->clocks[stream->lane];
  // Once the capture has ended, nobody can wait for it.
  point->has_passed = true;
  point->capture->points.push_back(point);
  return point;
}

cudaError_t CaptureWait(cudaStream_t stream, const Point& point) {
  if (point.capture == nullptr) {
    return Misused("a captured stream waits for an event outside");
  }
  if (stream->capture == nullptr) TakePart(point.capture, stream);
  if (stream->capture != point.capture) {
    return Misused("two captures wait for each other");
  }
  Write(stream)->waited = point.captured_number;
  Join(&stream->capture->clocks[stream->lane], point.clock);
  return cudaSuccess;
}

void ResetGraphs() {
  for (CUgraph_st* graph : G().graphs) delete graph;
  for (CUgraphExec_st* executable : G().executables) delete executable;
  G() = Graphs();
}

int64_t LiveGraphs() {
  return static_cast<int64_t>(G().graphs.size() + G().executables.size());
}

}  // namespace cuda_sim

using cuda_sim::G;
using cuda_sim::Misused;
using cuda_sim::ReleasingCall;
using cuda_sim::RuntimeCall;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  return RuntimeCall(__func__, [&] {
    if (!cuda_sim::IsStream(stream) || stream->capture != nullptr) {
      return Misused("cudaStreamBeginCapture of a stream that cannot");
    }
    auto capture = std::make_unique<cuda_sim::Capture>();
    cuda_sim::TakePart(capture.get(), stream);
    G().captures[stream] = std::move(capture);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return ReleasingCall(__func__,
                       [&] { return cuda_sim::EndCapture(stream, graph); });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream,
                                  cudaStreamCaptureStatus* status) {
  return RuntimeCall(__func__, [&] {
    *status = cuda_sim::IsCapturing(stream) ? cudaStreamCaptureStatusActive
                                            : cudaStreamCaptureStatusNone;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  return RuntimeCall(__func__, [&] {
    if (G().graphs.count(graph) == 0) return Misused("no such graph");
    *executable = new CUgraphExec_st{*graph, {}, nullptr};
    for (int lane = 1; lane < graph->num_lanes; ++lane) {
      (*executable)->lanes.push_back(cuda_sim::NewStream());
    }
    G().executables.insert(*executable);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return RuntimeCall(__func__, [&] {
    const cudaError_t error = cuda_sim::CheckExecutable(executable);
    if (error != cudaSuccess) return error;
    if (!cuda_sim::IsStream(stream) || stream->capture != nullptr) {
      return Misused("cudaGraphLaunch into a stream that cannot");
    }
    cuda_sim::Launch(executable, stream);
    return cudaSuccess;
  });
}

// Other arguments of the same operations; anything else is refused.
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* info) {
  return RuntimeCall(__func__, [&] {
    const cudaError_t error = cuda_sim::CheckExecutable(executable);
    if (error != cudaSuccess) return error;
    if (G().graphs.count(graph) == 0) return Misused("no such graph");
    const auto& old_calls = executable->graph.calls;
    bool is_same = old_calls.size() == graph->calls.size();
    for (size_t i = 0; is_same && i < old_calls.size(); ++i) {
      const auto& a = old_calls[i];
      const auto& b = graph->calls[i];
      is_same =
          a.lane == b.lane && a.recorded == b.recorded &&
          a.waited == b.waited && (a.work == nullptr) == (b.work == nullptr) &&
          (a.work == nullptr ||
           (a.work->kernel == b.work->kernel && a.work->name == b.work->name));
    }
    info->result = is_same ? cudaGraphExecUpdateSuccess
                           : cudaGraphExecUpdateErrorTopologyChanged;
    if (!is_same) return cudaErrorGraphExecUpdateFailure;
    executable->graph = *graph;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*,
                              size_t* count) {
  return RuntimeCall(__func__, [&] {
    if (G().graphs.count(graph) == 0) return Misused("no such graph");
    *count = 0;
    for (const auto& call : graph->calls) *count += call.work != nullptr;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return ReleasingCall(__func__, [&] {
    if (G().graphs.erase(graph) == 0) return Misused("no such graph");
    delete graph;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return ReleasingCall(__func__, [&] {
    const cudaError_t error = cuda_sim::CheckExecutable(executable);
    if (error == cudaSuccess) cuda_sim::Destroy(executable);
    return error;
  });
}

}  // extern "C"
