#include "server/metrics_exposer.h"

#include <fmt/format.h>
#include <netdb.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <exception>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"

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

// Opens a connection to the endpoint and closes it.
void Knock(const ListenAddress& address) {
  const bool any = address.host == "0.0.0.0" || address.host == "::";
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  // No host means the loopback addresses.
  if (getaddrinfo(any ? nullptr : address.host.c_str(),
                  std::to_string(address.port).c_str(), &hints, &found) != 0)
    return;
  for (const addrinfo* entry = found; entry != nullptr;
       entry = entry->ai_next) {
    const int fd =
        socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) continue;
    // It does not matter whether this succeeds: somebody knocks again.
    (void)connect(fd, entry->ai_addr, entry->ai_addrlen);
    close(fd);
  }
  freeaddrinfo(found);
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
    ListenAddress actual = address;
    actual.port = ports.front();
    return std::unique_ptr<MetricsExposer>(
        new MetricsExposer(std::move(exposer), std::move(actual)));
  } catch (const std::exception&) {
    return CannotListen(address, "in use or not an address of this machine");
  }
}

MetricsExposer::MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                               ListenAddress address)
    : exposer_(std::move(exposer)), address_(std::move(address)) {}

MetricsExposer::~MetricsExposer() {
  // The HTTP server looks at its stop flag when a connection comes, or every
  // two seconds: knock, so that a shutdown need not wait for that.
  absl::Notification stopped;
  std::thread stopper([&] {
    exposer_.reset();
    stopped.Notify();
  });
  while (!stopped.WaitForNotificationWithTimeout(absl::Milliseconds(10)))
    Knock(address_);
  stopper.join();
}

}  // namespace sentencekv
