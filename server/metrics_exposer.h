// The HTTP endpoint that Prometheus scrapes: /metrics on a port of its own.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "prometheus/collectable.h"
#include "server/flag_values.h"

namespace prometheus {
class Exposer;
}  // namespace prometheus

namespace sentencekv {

class MetricsExposer {
 public:
  // Listens and serves `collectable`, which is held weakly. kUnavailable when
  // the address cannot be listened on. REQUIRES: a TCP address.
  static absl::StatusOr<std::unique_ptr<MetricsExposer>> Start(
      const ListenAddress& address,
      const std::shared_ptr<prometheus::Collectable>& collectable);
  ~MetricsExposer();
  MetricsExposer(const MetricsExposer&) = delete;
  MetricsExposer& operator=(const MetricsExposer&) = delete;

  // The port that is listened on.
  int port() const { return address_.port; }

 private:
  MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                 ListenAddress address);

  std::unique_ptr<prometheus::Exposer> exposer_;
  const ListenAddress address_;  // with the actual port
};

}  // namespace sentencekv
