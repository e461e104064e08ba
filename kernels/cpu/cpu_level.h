// Instruction sets that the CPU kernels are written for. Kept free of Abseil,
// so that files compiled for one of them can include it.
#pragma once

#include <cstdint>
#include <string_view>

namespace sentencekv {

// In rising order: a machine that has one has all before it.
enum class CpuLevel : uint8_t {
  kPortable,  // plain C++, any machine
  kAvx2,      // AVX2 + FMA + F16C
  kAvx512,    // AVX-512 F/BW/VL/DQ + VNNI
};

std::string_view Name(CpuLevel level);
// The highest level this machine and its system have.
CpuLevel DetectCpuLevel();

}  // namespace sentencekv
