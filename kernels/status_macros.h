// Propagation of absl::Status, which this version of Abseil lacks.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the calling function when `expr` is not OK.
#define SKV_RETURN_IF_ERROR(expr)                                            \
  do {                                                                       \
    if (absl::Status skv_status_ = (expr); !skv_status_.ok()) [[unlikely]] { \
      return skv_status_;                                                    \
    }                                                                        \
  } while (false)

#define SKV_CONCAT_INNER_(a, b) a##b
#define SKV_CONCAT_(a, b) SKV_CONCAT_INNER_(a, b)

// SKV_ASSIGN_OR_RETURN(auto x, F()): declares or assigns x from a StatusOr.
#define SKV_ASSIGN_OR_RETURN(lhs, expr) \
  SKV_ASSIGN_OR_RETURN_IMPL_(SKV_CONCAT_(skv_statusor_, __LINE__), lhs, expr)
#define SKV_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                               \
  if (!tmp.ok()) [[unlikely]] {                    \
    return tmp.status();                           \
  }                                                \
  lhs = std::move(tmp).value()
