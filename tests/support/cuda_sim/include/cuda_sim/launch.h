// Launches: the arguments are kept in a plain block of memory until the stream
// gets there. No std::function: its code would be shared with the kernels' and
// counted as theirs.
#pragma once

#include <cstdlib>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_sim/fiber_calls.h"
#include "cuda_sim/launch_call.h"

namespace cuda_sim {

template <typename... Params>
struct KernelCall {
  void (*kernel)(Params...);
  std::tuple<Params...> arguments;
};

template <typename... Params, size_t... kIndex>
CUDA_SIM_OWN void RunWith(const KernelCall<Params...>& call,
                          std::index_sequence<kIndex...>) {
  call.kernel(std::get<kIndex>(call.arguments)...);
}
template <typename... Params>
CUDA_SIM_OWN void RunThread(const void* call) {
  RunWith(*static_cast<const KernelCall<Params...>*>(call),
          std::index_sequence_for<Params...>());
}

}  // namespace cuda_sim

template <typename... Params, typename... Arguments>
CUDA_SIM_OWN cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config,
                                            void (*kernel)(Params...),
                                            Arguments&&... arguments) {
  using Call = cuda_sim::KernelCall<Params...>;
  static_assert((std::is_trivially_destructible_v<Params> && ...));
  void* call = new (std::malloc(sizeof(Call)))
      Call{kernel, std::tuple<Params...>(arguments...)};
  return cuda_sim::SubmitLaunch(*config, reinterpret_cast<const void*>(kernel),
                                &cuda_sim::RunThread<Params...>, call);
}
