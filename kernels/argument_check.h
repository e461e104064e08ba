// Checks of what the operations of Backend are given.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "fmt/format.h"
#include "kernels/op_params.h"
#include "kernels/weight_matrix.h"

namespace sentencekv {

// Sizes above this cannot be meant; products of two of them fit in 64 bits.
inline constexpr int64_t kMaxDimension = int64_t{1} << 31;

// Which pages of its sequences an operation uses.
enum class KvPagesUsed : uint8_t { kAll, kOfRows };

// Collects the checks of one operation; the first failure is kept.
class ArgumentCheck {
 public:
  explicit ArgumentCheck(const char* operation) : operation_(operation) {}

  ArgumentCheck& Count(const char* name, int64_t value) {
    return InRange(name, value, 0, kMaxDimension);
  }
  ArgumentCheck& Positive(const char* name, int64_t value) {
    return InRange(name, value, 1, kMaxDimension);
  }
  ArgumentCheck& InRange(const char* name, int64_t value, int64_t low,
                         int64_t high) {
    if (value < low || value > high) {
      Fail(fmt::format("{} must be in {}..{}, got {}", name, low, high, value));
    }
    return *this;
  }
  ArgumentCheck& NotNull(const char* name, const void* pointer) {
    if (pointer == nullptr) Fail(fmt::format("{} is null", name));
    return *this;
  }
  ArgumentCheck& That(bool condition, const char* requirement) {
    if (!condition) Fail(requirement);
    return *this;
  }
  ArgumentCheck& Layout(const KvLayout& layout) {
    return Count("num_layers", layout.num_layers)
        .Count("num_pages", layout.num_pages)
        .Positive("num_kv_heads", layout.num_kv_heads)
        .Positive("head_dim", layout.head_dim)
        .That(layout.dtype <= DType::kBF16, "unknown dtype of the KV pool");
  }
  // Sizes that the attention kernels are written for.
  ArgumentCheck& Head(int64_t head_dim) {
    return InRange("head_dim", head_dim, 8, 256)
        .That(head_dim % 8 == 0, "head_dim must be a multiple of 8");
  }
  ArgumentCheck& Matrix(const char* name, const WeightMatrix* matrix) {
    if (!NotNull(name, matrix).ok()) return *this;
    return NotNull("data of the weight matrix", matrix->data.data())
        .Positive("rows of the weight matrix", matrix->rows)
        .Positive("cols of the weight matrix", matrix->cols);
  }
  ArgumentCheck& IndexKind(SentenceIndexKind kind, const void* signs) {
    That(kind <= SentenceIndexKind::kSign, "unknown kind of sentence index");
    return kind == SentenceIndexKind::kSign ? NotNull("signs", signs) : *this;
  }
  ArgumentCheck& Sequences(const KvLayout& layout, const KvSequence* sequences,
                           int64_t count, KvPagesUsed used);
  ArgumentCheck& Selection(const KvLayout& layout,
                           const SelectedTokens& selection);

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }

 private:
  // Keeps the problem, with the operation's name, if it is the first.
  void Fail(std::string_view problem);

  const char* operation_;
  absl::Status status_;
};

}  // namespace sentencekv
