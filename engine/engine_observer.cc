#include "engine/engine_observer.h"

namespace sentencekv {

std::string_view Name(RefusalReason reason) {
  switch (reason) {
    case RefusalReason::kQueueFull:
      return "queue_full";
    case RefusalReason::kTooLong:
      return "too_long";
    case RefusalReason::kInvalid:
      return "invalid";
    case RefusalReason::kDraining:
      return "draining";
    case RefusalReason::kDeadline:
      return "deadline";
    case RefusalReason::kDuplicateId:
      return "duplicate_id";
  }
  return "unknown";
}

}  // namespace sentencekv
