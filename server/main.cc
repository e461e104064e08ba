#include <iostream>

#include "server/daemon.h"
#ifdef SENTENCEKV_HAS_CUDA
#include "kernels/cuda/cuda_backend.h"
#include "server/server_config.h"
#endif

int main(int argc, char** argv) {
  sentencekv::BackendMaker make_cuda;
#ifdef SENTENCEKV_HAS_CUDA
  make_cuda = [](const sentencekv::ServerConfig& config) {
    return sentencekv::MakeCudaBackend({.has_graphs = config.cuda_graphs});
  };
#endif
  return sentencekv::RunDaemon(argc, argv, std::cout, std::cerr, make_cuda);
}
