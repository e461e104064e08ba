// The daemon, on the simulated device: sentencekv-server for tests.
// SENTENCEKV_SIM_SEED sets the order of threads, blocks and streams;
// SENTENCEKV_SIM_LOST_AFTER lets the device be lost at so many launches.
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "kernels/cuda/cuda_backend.h"
#include "server/daemon.h"
#include "server/server_config.h"
#include "tests/cuda/simulated_cublas_lt.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace {

// What the simulated device found ends the program with it.
constexpr int kFoundSomething = 77;

}  // namespace

int main(int argc, char** argv) {
  const char* seed = std::getenv("SENTENCEKV_SIM_SEED");
  cuda_sim::Reset(
      {.seed = seed == nullptr ? 1 : std::strtoull(seed, nullptr, 10),
       .device_bytes = size_t{64} << 30});
  if (const char* launches = std::getenv("SENTENCEKV_SIM_LOST_AFTER")) {
    cuda_sim::FailCall("cudaLaunchKernelEx", std::atoll(launches),
                       cudaErrorIllegalAddress);
  }
  const sentencekv::CublasLtTable table = sentencekv::SimulatedCublasLt();
  const int exit_code = sentencekv::RunDaemon(
      argc, argv, std::cout, std::cerr,
      [&](const sentencekv::ServerConfig& config) {
        // Protecting and opening memory again takes time for each page.
        return sentencekv::MakeCudaBackend({.cublas_lt = &table,
                                            .mark_block = &cuda_sim::MarkBlock,
                                            .staging_bytes = 1 << 20,
                                            .attention_bytes = 256 << 10,
                                            .has_graphs = config.cuda_graphs,
                                            .product_bytes = 4096});
      });
  const auto reports = cuda_sim::TakeReports();
  for (const cuda_sim::Report& report : reports) {
    std::cerr << cuda_sim::FindingName(report.finding) << ": " << report.text
              << "\n";
  }
  return reports.empty() ? exit_code : kFoundSomething;
}
