// The CPU backends that a kernel test runs on: every level of this machine,
// with one and two threads.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"

namespace sentencekv {

struct CpuVariant {
  CpuLevel level;
  int num_threads;
};

inline std::vector<CpuVariant> CpuVariants() {
  std::vector<CpuVariant> variants;
  for (const CpuLevel level :
       {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    if (level > DetectCpuLevel()) break;
    for (const int threads : {1, 2}) variants.push_back({level, threads});
  }
  return variants;
}

inline std::string CpuVariantName(
    const testing::TestParamInfo<CpuVariant>& info) {
  return std::string(Name(info.param.level)) + "_" +
         std::to_string(info.param.num_threads);
}

// A backend of that variant; aborts when there is none.
inline std::unique_ptr<Backend> MakeVariant(const CpuVariant& variant) {
  CpuBackendOptions options;
  options.num_threads = variant.num_threads;
  options.level = variant.level;
  return MakeCpuBackend(options).value();
}

}  // namespace sentencekv
