// Warp and block operations by CUDA's names.
#pragma once

#include "cuda_sim/fiber_calls.h"
#include "cuda_sim/thread_index.h"

namespace cuda_sim {

template <typename T>
struct ShuffleOperand {
  T value;
  int lane;
  int source;  // the lane to read from
  T result;
};

template <typename T>
CUDA_SIM_OWN void ExchangeValues(void* const (&operands)[32]) {
  for (void* mine : operands) {
    if (mine == nullptr) continue;
    auto* to = static_cast<ShuffleOperand<T>*>(mine);
    const void* from = operands[to->source];
    if (from == nullptr) Misuse("a shuffle reads a lane that takes no part");
    to->result = static_cast<const ShuffleOperand<T>*>(from)->value;
  }
}

template <typename T>
CUDA_SIM_OWN T Shuffle(const char* name, unsigned mask, T value, int source,
                       Place place) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
  const int lane = static_cast<int>(threadIdx.x % 32);
  ShuffleOperand<T> operand{value, lane, source, value};
  WarpCollective(name, mask, &operand, &ExchangeValues<T>, place);
  return operand.result;
}

// The lane that `lane` reads, within its part of `width` lanes; its own where
// the other lies outside.
CUDA_SIM_OWN inline int SourceWithin(int lane, int other, int width) {
  const int first = lane / width * width;
  return other >= first && other < first + width ? other : lane;
}

struct VoteOperand {
  bool vote;
  unsigned result;
};
CUDA_SIM_OWN inline void CountVotes(void* const (&operands)[32]) {
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    const auto* operand = static_cast<const VoteOperand*>(operands[lane]);
    if (operand != nullptr && operand->vote) votes |= 1u << lane;
  }
  for (void* operand : operands) {
    if (operand != nullptr) static_cast<VoteOperand*>(operand)->result = votes;
  }
}
CUDA_SIM_OWN inline unsigned Votes(const char* name, unsigned mask, bool vote,
                                   Place place) {
  VoteOperand operand{vote, 0};
  WarpCollective(name, mask, &operand, &CountVotes, place);
  return operand.result;
}

template <typename T>
struct ReduceOperand {
  T value;
};
template <typename T, T (*kCombine)(T, T)>
CUDA_SIM_OWN void ReduceValues(void* const (&operands)[32]) {
  bool is_first = true;
  T result{};
  for (void* operand : operands) {
    if (operand == nullptr) continue;
    const T value = static_cast<ReduceOperand<T>*>(operand)->value;
    result = is_first ? value : kCombine(result, value);
    is_first = false;
  }
  for (void* operand : operands) {
    if (operand != nullptr) {
      static_cast<ReduceOperand<T>*>(operand)->value = result;
    }
  }
}
template <typename T, T (*kCombine)(T, T)>
CUDA_SIM_OWN T Reduce(const char* name, unsigned mask, T value, Place place) {
  ReduceOperand<T> operand{value};
  WarpCollective(name, mask, &operand, &ReduceValues<T, kCombine>, place);
  return operand.value;
}
template <typename T>
CUDA_SIM_OWN T Add(T a, T b) {
  return a + b;
}
template <typename T>
CUDA_SIM_OWN T Smaller(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
CUDA_SIM_OWN T Larger(T a, T b) {
  return a < b ? b : a;
}

}  // namespace cuda_sim

template <typename T>
CUDA_SIM_OWN T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                           cuda_sim::Place place = cuda_sim::Here()) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int first = lane / width * width;
  return cuda_sim::Shuffle("__shfl_sync", mask, value,
                           first + (source & (width - 1)), place);
}
template <typename T>
CUDA_SIM_OWN T __shfl_xor_sync(unsigned mask, T value, int lane_mask,
                               int width = 32,
                               cuda_sim::Place place = cuda_sim::Here()) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return cuda_sim::Shuffle(
      "__shfl_xor_sync", mask, value,
      cuda_sim::SourceWithin(lane, lane ^ lane_mask, width), place);
}
template <typename T>
CUDA_SIM_OWN T __shfl_up_sync(unsigned mask, T value, unsigned distance,
                              int width = 32,
                              cuda_sim::Place place = cuda_sim::Here()) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return cuda_sim::Shuffle(
      "__shfl_up_sync", mask, value,
      cuda_sim::SourceWithin(lane, lane - static_cast<int>(distance), width),
      place);
}
template <typename T>
CUDA_SIM_OWN T __shfl_down_sync(unsigned mask, T value, unsigned distance,
                                int width = 32,
                                cuda_sim::Place place = cuda_sim::Here()) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return cuda_sim::Shuffle(
      "__shfl_down_sync", mask, value,
      cuda_sim::SourceWithin(lane, lane + static_cast<int>(distance), width),
      place);
}

CUDA_SIM_OWN inline unsigned __ballot_sync(
    unsigned mask, int vote, cuda_sim::Place place = cuda_sim::Here()) {
  return cuda_sim::Votes("__ballot_sync", mask, vote != 0, place);
}
CUDA_SIM_OWN inline int __any_sync(unsigned mask, int vote,
                                   cuda_sim::Place place = cuda_sim::Here()) {
  return cuda_sim::Votes("__any_sync", mask, vote != 0, place) != 0;
}
CUDA_SIM_OWN inline int __all_sync(unsigned mask, int vote,
                                   cuda_sim::Place place = cuda_sim::Here()) {
  return cuda_sim::Votes("__all_sync", mask, vote == 0, place) == 0;
}

template <typename T>
CUDA_SIM_OWN T __reduce_add_sync(unsigned mask, T value,
                                 cuda_sim::Place place = cuda_sim::Here()) {
  return cuda_sim::Reduce<T, cuda_sim::Add<T>>("__reduce_add_sync", mask, value,
                                               place);
}
template <typename T>
CUDA_SIM_OWN T __reduce_min_sync(unsigned mask, T value,
                                 cuda_sim::Place place = cuda_sim::Here()) {
  return cuda_sim::Reduce<T, cuda_sim::Smaller<T>>("__reduce_min_sync", mask,
                                                   value, place);
}
template <typename T>
CUDA_SIM_OWN T __reduce_max_sync(unsigned mask, T value,
                                 cuda_sim::Place place = cuda_sim::Here()) {
  return cuda_sim::Reduce<T, cuda_sim::Larger<T>>("__reduce_max_sync", mask,
                                                  value, place);
}

CUDA_SIM_OWN inline void __syncwarp(unsigned mask = 0xffffffffu,
                                    cuda_sim::Place place = cuda_sim::Here()) {
  cuda_sim::SyncWarp(mask, place);
}
CUDA_SIM_OWN inline void __syncthreads(
    cuda_sim::Place place = cuda_sim::Here()) {
  cuda_sim::SyncThreads("__syncthreads", false, place);
}
CUDA_SIM_OWN inline int __syncthreads_count(
    int vote, cuda_sim::Place place = cuda_sim::Here()) {
  return cuda_sim::SyncThreads("__syncthreads_count", vote != 0, place);
}
CUDA_SIM_OWN inline int __syncthreads_or(
    int vote, cuda_sim::Place place = cuda_sim::Here()) {
  return cuda_sim::SyncThreads("__syncthreads_or", vote != 0, place) != 0;
}
CUDA_SIM_OWN inline int __syncthreads_and(
    int vote, cuda_sim::Place place = cuda_sim::Here()) {
  return cuda_sim::SyncThreads("__syncthreads_and", vote == 0, place) == 0;
}
