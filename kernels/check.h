// Checks of our own invariants. Nothing that comes from outside (a client, a
// file, the network) may reach one of these: that is absl::Status's work.
//
// SKV_CHECK   cheap, active in every build; prints the expression and aborts.
// SKV_DCHECK  in hot loops or expensive; active unless NDEBUG is defined.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace sentencekv {

[[noreturn]] inline void CheckFailed(const char* file, int line,
                                     const char* expression) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, expression);
  std::abort();
}

}  // namespace sentencekv

#define SKV_CHECK(condition) \
  ((condition) ? (void)0     \
               : ::sentencekv::CheckFailed(__FILE__, __LINE__, #condition))

#ifdef NDEBUG
#define SKV_DCHECK(condition) ((void)0)
#else
#define SKV_DCHECK(condition) SKV_CHECK(condition)
#endif
