// What a request has used, as its last event says.
#pragma once

#include "absl/time/time.h"
#include "engine/active_request.h"
#include "engine/request.h"

namespace sentencekv {

// Of a request that ends at `now`. REQUIRES: it still holds its lease, if it
// has one, from which the usage of the policy comes.
Usage UsageOf(const ActiveRequest& request, absl::Time now);

}  // namespace sentencekv
