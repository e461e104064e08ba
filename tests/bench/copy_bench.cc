// How fast bytes go between host and device: size x number of copies x way.
//
//   copy_bench [MIB]      pinned host memory to use, 256 unless told
//
// Prints the device and a table in Markdown, in GB/s (10^9 bytes): all copies
// of a row are submitted one after the other, the time is until the last is
// done, the median of several. Then a warning where large copies to the device
// are slower than kSlow on a link of PCIe 5. Exits with 5 where there is no
// device, with 1 when a call fails.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

constexpr int kNoDevice = 5;  // as the daemon ends with --backend=cuda
constexpr int kRounds = 7;
// 50 to 55 GB/s is what a copy engine reaches on 16 lanes of PCIe 5; half of it
// hints at too few lanes, or memory of another processor's.
constexpr double kSlow = 25;
constexpr double kPcie5 = 32;  // GT/s of a lane

struct Copies {
  size_t size = 0;
  int count = 0;
};

// Memory of both kinds, and a stream for each way.
class Machine {
 public:
  static absl::StatusOr<std::unique_ptr<Machine>> Create(size_t size_bytes) {
    auto machine = std::unique_ptr<Machine>(new Machine);
    SKV_RETURN_IF_CUDA_ERROR(
        cudaHostAlloc(&machine->host_, 2 * size_bytes, cudaHostAllocDefault));
    SKV_RETURN_IF_CUDA_ERROR(cudaMalloc(&machine->device_, 2 * size_bytes));
    for (cudaStream_t* stream : {&machine->down_, &machine->up_}) {
      SKV_RETURN_IF_CUDA_ERROR(
          cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking));
    }
    machine->size_bytes_ = size_bytes;
    // A copy reads what was written.
    SKV_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(machine->device_, 0, 2 * size_bytes, machine->down_));
    std::fill_n(static_cast<char*>(machine->host_), 2 * size_bytes, 0);
    SKV_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(machine->down_));
    return machine;
  }
  ~Machine() {
    cudaStreamDestroy(down_);
    cudaStreamDestroy(up_);
    cudaFree(device_);
    cudaFreeHost(host_);
  }

  // Host to device, in the first halves of both memories.
  cudaError_t SubmitDown(const Copies& copies) const {
    return Submit(copies, device_, host_, cudaMemcpyHostToDevice, down_);
  }
  // Device to host, in the second halves.
  cudaError_t SubmitUp(const Copies& copies) const {
    return Submit(copies, static_cast<char*>(host_) + size_bytes_,
                  static_cast<char*>(device_) + size_bytes_,
                  cudaMemcpyDeviceToHost, up_);
  }
  cudaError_t AwaitAll() const {
    const cudaError_t error = cudaStreamSynchronize(down_);
    return error != cudaSuccess ? error : cudaStreamSynchronize(up_);
  }

 private:
  Machine() = default;
  static cudaError_t Submit(const Copies& copies, void* to, const void* from,
                            cudaMemcpyKind kind, cudaStream_t stream) {
    for (int i = 0; i < copies.count; ++i) {
      const cudaError_t error =
          cudaMemcpyAsync(static_cast<char*>(to) + i * copies.size,
                          static_cast<const char*>(from) + i * copies.size,
                          copies.size, kind, stream);
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }

  size_t size_bytes_ = 0;
  void* host_ = nullptr;    // [2][size_bytes_], pinned
  void* device_ = nullptr;  // [2][size_bytes_]
  cudaStream_t down_ = nullptr;
  cudaStream_t up_ = nullptr;
};

// GB/s of `bytes` that `submit` moves.
absl::StatusOr<double> Rate(const Machine& machine, double bytes,
                            const std::function<cudaError_t()>& submit) {
  std::vector<double> rates;
  for (int i = 0; i < kRounds; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    SKV_RETURN_IF_CUDA_ERROR(submit());
    SKV_RETURN_IF_CUDA_ERROR(machine.AwaitAll());
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - begin;
    rates.push_back(bytes / seconds.count() * 1e-9);
  }
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

std::string SizeName(size_t bytes) {
  return bytes < size_t{1} << 20 ? fmt::format("{} KiB", bytes >> 10)
                                 : fmt::format("{} MiB", bytes >> 20);
}

// Prints the table. Returns the rate of the largest copies to the device.
absl::StatusOr<double> PrintTable(const Machine& machine, size_t size_bytes) {
  std::printf(
      "| size | copies | to device, GB/s | to host, GB/s | both ways "
      "together, GB/s |\n|---|---|---|---|---|\n");
  double largest = 0;
  for (size_t size = 4 << 10; size <= size_bytes; size *= 4) {
    for (const int count : {1, 16, 256}) {
      if (size * count > size_bytes) continue;
      const Copies copies = {size, count};
      const double bytes = static_cast<double>(size) * count;
      SKV_ASSIGN_OR_RETURN(const double down, Rate(machine, bytes, [&] {
                             return machine.SubmitDown(copies);
                           }));
      SKV_ASSIGN_OR_RETURN(const double up, Rate(machine, bytes, [&] {
                             return machine.SubmitUp(copies);
                           }));
      SKV_ASSIGN_OR_RETURN(
          const double both, Rate(machine, 2 * bytes, [&] {
            const cudaError_t error = machine.SubmitDown(copies);
            return error != cudaSuccess ? error : machine.SubmitUp(copies);
          }));
      std::printf("| %s | %d | %.1f | %.1f | %.1f |\n", SizeName(size).c_str(),
                  count, down, up, both);
      largest = down;
    }
  }
  return largest;
}

// What the system says of the first device's link: "32.0 GT/s PCIe" and "16";
// empty where it does not.
std::string OfLink(const char* file) {
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return "";
  std::ifstream in(fmt::format("/sys/bus/pci/devices/{:04x}:{:02x}:{:02x}.0/{}",
                               properties.pciDomainID, properties.pciBusID,
                               properties.pciDeviceID, file));
  std::string line;
  std::getline(in, line);
  return line;
}

absl::Status RunBench(const CudaDevice& device, size_t size_bytes) {
  const std::string speed = OfLink("max_link_speed");
  std::printf(
      "%s, compute capability %d.%d, %d processors, %.1f GiB; driver of CUDA "
      "%d.%d; link: %s x %s\n\n",
      device.name.c_str(), device.major, device.minor, device.num_processors,
      static_cast<double>(device.memory_bytes) / (1 << 30),
      device.driver_version / 1000, device.driver_version % 1000 / 10,
      speed.empty() ? "unknown" : speed.c_str(),
      OfLink("max_link_width").c_str());
  SKV_ASSIGN_OR_RETURN(const auto machine, Machine::Create(size_bytes));
  SKV_ASSIGN_OR_RETURN(const double largest, PrintTable(*machine, size_bytes));
  if (std::atof(speed.c_str()) >= kPcie5 && largest < kSlow) {
    std::printf(
        "\nWARNING: %.1f GB/s to the device on a PCIe 5 link; %.0f and more "
        "is usual. Too few lanes, or host memory of another processor's?\n",
        largest, kSlow);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace sentencekv

int main(int argc, char** argv) {
  const int64_t mib = argc > 1 ? std::atoll(argv[1]) : 256;
  if (mib < 1 || mib > 65536 || argc > 2) {
    std::fprintf(stderr, "copy_bench [MIB], 1..65536\n");
    return 2;
  }
  const auto device = sentencekv::FindCudaDevice();
  if (!device.ok()) {
    std::fprintf(stderr, "copy_bench: %s\n",
                 std::string(device.status().message()).c_str());
    return sentencekv::kNoDevice;
  }
  // Half for each way.
  const absl::Status status =
      sentencekv::RunBench(*device, static_cast<size_t>(mib) << 19);
  if (!status.ok()) {
    std::fprintf(stderr, "copy_bench: %s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
