#include "server/metrics_exposer.h"

#include <fmt/format.h>
#include <prometheus/exposer.h>

#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace sentencekv {
namespace {

// A scrape takes milliseconds; a client that keeps a connection and says
// nothing holds one of the two threads for no longer than this.
constexpr char kRequestTimeoutMs[] = "10000";
constexpr char kNumThreads[] = "2";

// The HTTP server resolves no names.
std::string NumericAddress(const ListenAddress& address) {
  ListenAddress numeric = address;
  if (numeric.host == "localhost") numeric.host = "127.0.0.1";
  return numeric.ToString();
}

absl::Status CannotListen(const ListenAddress& address, const char* why) {
  return absl::UnavailableError(fmt::format(
      "cannot listen for metrics on {}: {}", address.ToString(), why));
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsExposer>> MetricsExposer::Start(
    const ListenAddress& address,
    const std::shared_ptr<prometheus::Collectable>& collectable) {
  try {
    auto exposer =
        std::make_unique<prometheus::Exposer>(std::vector<std::string>{
            "listening_ports", NumericAddress(address), "num_threads",
            kNumThreads, "request_timeout_ms", kRequestTimeoutMs});
    const std::vector<int> ports = exposer->GetListeningPorts();
    if (ports.empty()) return CannotListen(address, "no port was opened");
    exposer->RegisterCollectable(collectable);
    return std::unique_ptr<MetricsExposer>(
        new MetricsExposer(std::move(exposer), ports.front()));
  } catch (const std::exception& error) {
    return CannotListen(address, "in use or not an address of this machine");
  }
}

MetricsExposer::MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                               int port)
    : exposer_(std::move(exposer)), port_(port) {}

MetricsExposer::~MetricsExposer() = default;

}  // namespace sentencekv
