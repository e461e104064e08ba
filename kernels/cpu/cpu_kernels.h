// The table of kernels of one dispatch level.
//
// Every level has files
// kernels/cpu/{matmul,vector_ops,rope,attention,sentences}_LEVEL.cc, compiled with that
// level's -m flags, each with a Fill function that sets its entries. A table is
// filled from the portable level upwards, so an operation that a level does not
// write anew is inherited from the level below.
//
// Rules for a file compiled with -m flags: no inline or template function of
// std, absl or fmt may be instantiated in it (the linker keeps one copy of
// such a function for the whole program, and it might keep the one that only
// new machines can run). Functions of our headers that such files use are
// `static inline`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/cpu_level.h"
#include "kernels/cpu/sentence_kernels.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/op_params.h"

namespace sentencekv {

struct CpuKernels {
  // Prepares a tile of 1, 2, 3, 4 or 6 rows of x, [num_rows, cols] with rows
  // cols apart, for matmul[format]. kernels/cpu/weight_layout.h has the
  // layouts.
  using PrepareRows = void (*)(const float* x, int64_t cols, int num_rows,
                               std::byte* tile);
  // out[m][i] = panels[i] . row[m] for num_panels panels of 16 weight rows
  // each; rows of out lie out_stride floats apart.
  struct PanelProduct {
    const std::byte* panels = nullptr;
    int64_t num_panels = 0;
    const std::byte* tile = nullptr;  // from PrepareRows
    int num_rows = 0;                 // 1, 2, 3, 4 or 6
    int64_t cols = 0;                 // K
    float* out = nullptr;             // [num_rows, >= 16 * num_panels]
    int64_t out_stride = 0;
  };
  using MultiplyPanels = void (*)(const PanelProduct& product);

  // matmul_LEVEL.cc. Indexed by WeightFormat.
  PrepareRows prepare_rows[5] = {};
  MultiplyPanels multiply_panels[5] = {};

  // vector_ops_LEVEL.cc. Arguments are checked, with at least one row.
  void (*rms_norm)(WorkerPool& pool, const RmsNormParams& params) = nullptr;
  void (*swiglu)(WorkerPool& pool, const SwiGluParams& params) = nullptr;
  void (*gather_rows)(WorkerPool& pool,
                      const GatherRowsParams& params) = nullptr;
  void (*copy_pages)(WorkerPool& pool, const CopyPagesParams& params) = nullptr;

  // rope_LEVEL.cc.
  void (*rope_table)(WorkerPool& pool, const RopeTableParams& params) = nullptr;
  void (*rope_store_kv)(WorkerPool& pool,
                        const RopeStoreKvParams& params) = nullptr;

  // attention_LEVEL.cc.
  AttentionKernels attention;

  // sentences_LEVEL.cc.
  SentenceKernels sentences;
};

// The table of a level, which this machine must have.
const CpuKernels& KernelsOf(CpuLevel level);

void FillMatMulPortable(CpuKernels& kernels);
void FillMatMulAvx2(CpuKernels& kernels);
void FillMatMulAvx512(CpuKernels& kernels);

void FillVectorOpsPortable(CpuKernels& kernels);
void FillVectorOpsAvx2(CpuKernels& kernels);
void FillVectorOpsAvx512(CpuKernels& kernels);

void FillRopePortable(CpuKernels& kernels);
void FillRopeAvx2(CpuKernels& kernels);
void FillRopeAvx512(CpuKernels& kernels);

void FillAttentionPortable(CpuKernels& kernels);
void FillAttentionAvx2(CpuKernels& kernels);
void FillAttentionAvx512(CpuKernels& kernels);

void FillSentencesPortable(CpuKernels& kernels);
void FillSentencesAvx2(CpuKernels& kernels);
void FillSentencesAvx512(CpuKernels& kernels);

}  // namespace sentencekv
