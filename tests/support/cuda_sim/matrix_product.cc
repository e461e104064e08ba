#include "tests/support/cuda_sim/matrix_product.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/support/cuda_sim/runtime_operations.h"

namespace cuda_sim {
namespace {

float ToFloat(const std::byte* element, cudaDataType_t type) {
  if (type == CUDA_R_16BF) {
    return static_cast<float>(*reinterpret_cast<const __nv_bfloat16*>(element));
  }
  return static_cast<float>(*reinterpret_cast<const __half*>(element));
}

// One column of A or B as floats.
void ReadColumn(const std::byte* matrix, const Layout& layout, uint64_t column,
                float* values) {
  const std::byte* from = matrix + column * layout.stride * 2;
  for (uint64_t i = 0; i < layout.rows; ++i) {
    values[i] = ToFloat(from + 2 * i, layout.type);
  }
}

// Sixteen sums, which the compiler keeps in registers.
float Dot(const float* a, const float* b, uint64_t count) {
  float sums[16] = {};
  uint64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int j = 0; j < 16; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < count; ++i) sums[i % 16] += a[i] * b[i];
  float sum = 0;
  for (float part : sums) sum += part;
  return sum;
}

// The columns of a matrix, as far as they are used.
bool AddColumns(const void* matrix, const Layout& layout, size_t element_bytes,
                std::vector<Interval>* intervals) {
  const auto* column = static_cast<const std::byte*>(matrix);
  const size_t bytes = layout.rows * element_bytes;
  for (uint64_t i = 0; i < layout.cols; ++i) {
    if (!CheckWhole("matmul", column, bytes)) return false;
    const Interval next = IntervalOf(column, bytes);
    if (!intervals->empty() && intervals->back().end == next.begin) {
      intervals->back().end = next.end;
    } else {
      intervals->push_back(next);
    }
    column += layout.stride * static_cast<int64_t>(element_bytes);
  }
  return true;
}

}  // namespace

OperationAccess RunProduct(const Product& p) {
  OperationAccess access;
  // Intervals rise: each matrix apart, then merged by their begin.
  std::vector<Interval> d;
  bool is_there = AddColumns(p.a, p.a_layout, 2, &access.reads) &&
                  AddColumns(p.b, p.b_layout, 2, &access.reads) &&
                  AddColumns(p.d, p.d_layout, sizeof(float), &d);
  if (is_there && p.bias != nullptr) {
    const size_t bytes = p.d_layout.rows * sizeof(float);
    is_there = CheckWhole("bias of matmul", p.bias, bytes);
    access.reads.push_back(IntervalOf(p.bias, bytes));
  }
  if (is_there && p.scratch_bytes > 0) {
    is_there = CheckWhole("scratch of matmul", p.scratch, p.scratch_bytes);
  }
  if (!is_there) return {};
  access.writes = d;
  if (p.scratch_bytes > 0) {
    std::memset(p.scratch, 0xff, p.scratch_bytes);
    access.writes.push_back(IntervalOf(p.scratch, p.scratch_bytes));
  }
  if (p.beta != 0) access.reads.insert(access.reads.end(), d.begin(), d.end());
  const auto by_begin = [](Interval x, Interval y) {
    return x.begin < y.begin;
  };
  std::sort(access.reads.begin(), access.reads.end(), by_begin);
  std::sort(access.writes.begin(), access.writes.end(), by_begin);

  const uint64_t k = p.a_layout.rows;
  const uint64_t t = p.b_layout.cols;
  std::vector<float> x(t * k);
  std::vector<float> w(k);
  for (uint64_t j = 0; j < t; ++j) ReadColumn(p.b, p.b_layout, j, &x[j * k]);
  for (uint64_t i = 0; i < p.a_layout.cols; ++i) {
    ReadColumn(p.a, p.a_layout, i, w.data());
    for (uint64_t j = 0; j < t; ++j) {
      float* out = p.d + j * p.d_layout.stride + i;
      float value = p.alpha * Dot(w.data(), &x[j * k], k);
      if (p.beta != 0) value += p.beta * *out;
      if (p.bias != nullptr) value += p.bias[i];
      *out = value;
    }
  }
  return access;
}

}  // namespace cuda_sim
