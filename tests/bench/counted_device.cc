#include "tests/bench/counted_device.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

namespace sentencekv {
namespace {

// Address space; only what is used is memory of this machine.
constexpr size_t kDeviceBytes = size_t{4} << 30;

void AddCount(const cuda_sim::OperationCount& count, OperationCounts* sum) {
  for (cuda_sim::OperationCount& known : *sum) {
    if (known.name != count.name) continue;
    known.launches += count.launches;
    known.bytes_read += count.bytes_read;
    known.bytes_written += count.bytes_written;
    known.host_bytes_read += count.host_bytes_read;
    known.host_bytes_written += count.host_bytes_written;
    return;
  }
  sum->push_back(count);
}

// Of all that was submitted; blocks are marked for the simulation alone.
OperationCounts CountsSoFar() {
  Must(cudaDeviceSynchronize());
  OperationCounts counts = cuda_sim::OperationCounts();
  std::erase_if(counts, [](const cuda_sim::OperationCount& count) {
    return count.name == "mark block";
  });
  return counts;
}

}  // namespace

void FailCounting(const std::string& message) {
  fmt::print(stderr, "{}\n", message);
  for (const cuda_sim::Report& report : cuda_sim::TakeReports()) {
    fmt::print(stderr, "{}: {}\n", cuda_sim::FindingName(report.finding),
               report.text);
  }
  std::exit(1);
}

void Must(cudaError_t error) {
  if (error != cudaSuccess) FailCounting(cudaGetErrorString(error));
}

void Must(const absl::Status& status) {
  if (!status.ok()) FailCounting(status.ToString());
}

OperationCounts CountsOf(const std::function<void()>& work) {
  const OperationCounts before = CountsSoFar();
  work();
  OperationCounts counts;
  for (cuda_sim::OperationCount count : CountsSoFar()) {
    const cuda_sim::OperationCount earlier = CountOf(before, count.name);
    count.launches -= earlier.launches;
    count.bytes_read -= earlier.bytes_read;
    count.bytes_written -= earlier.bytes_written;
    count.host_bytes_read -= earlier.host_bytes_read;
    count.host_bytes_written -= earlier.host_bytes_written;
    if (count.launches > 0) counts.push_back(count);
  }
  return counts;
}

void AddCounts(const OperationCounts& more, OperationCounts* sum) {
  for (const cuda_sim::OperationCount& count : more) AddCount(count, sum);
}

cuda_sim::OperationCount CountOf(const OperationCounts& counts,
                                 std::string_view name) {
  for (const cuda_sim::OperationCount& count : counts) {
    if (count.name == name) return count;
  }
  return {};
}

CountedDevice::CountedDevice() {
  cuda_sim::Reset({.seed = 1, .device_bytes = kDeviceBytes});
  Must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}

CountedDevice::~CountedDevice() {
  Must(cudaDeviceSynchronize());
  cuda_sim::Reset({});
}

void* CountedDevice::DeviceBytes(size_t size_bytes) {
  void* memory = nullptr;
  Must(cudaMalloc(&memory, size_bytes));
  return memory;
}

void* CountedDevice::PinnedBytes(size_t size_bytes) {
  void* memory = nullptr;
  Must(cudaHostAlloc(&memory, size_bytes, cudaHostAllocDefault));
  return memory;
}

}  // namespace sentencekv
