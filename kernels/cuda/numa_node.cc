#include "kernels/cuda/numa_node.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <fstream>

#include "absl/strings/ascii.h"

namespace sentencekv {

int NumaNodeOf(std::string_view pci_bus_id, const std::string& root) {
  // The runtime writes digits in upper case, the file system in lower.
  std::ifstream file(root + "sys/bus/pci/devices/" +
                     absl::AsciiStrToLower(std::string(pci_bus_id)) +
                     "/numa_node");
  int node = -1;
  return file >> node && node >= 0 ? node : -1;
}

void PreferNumaNode(std::byte* data, size_t size_bytes, int node) {
  constexpr size_t kBitsPerWord = CHAR_BIT * sizeof(unsigned long);
  std::array<unsigned long, 16> nodes = {};
  if (node < 0 || static_cast<size_t>(node) >= nodes.size() * kBitsPerWord) {
    return;
  }
  nodes[static_cast<size_t>(node) / kBitsPerWord] =
      1ul << (static_cast<size_t>(node) % kBitsPerWord);
  // The system reads one bit less than it is told that there are.
  (void)syscall(SYS_mbind, data, size_bytes, MPOL_PREFERRED, nodes.data(),
                nodes.size() * kBitsPerWord + 1, 0);
}

}  // namespace sentencekv
