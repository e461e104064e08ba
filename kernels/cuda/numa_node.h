// Memory near a device, on machines whose processors have memory of their own.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sentencekv {

// The node that a PCI device ("0000:3B:00.0") is attached to; -1 where that is
// not known, as in most virtual machines. `root` has sys/.
int NumaNodeOf(std::string_view pci_bus_id, const std::string& root = "/");

// Has memory that nobody has touched come from a node as far as that has some.
// Advice only; -1 gives none. `data` is at the beginning of a page.
void PreferNumaNode(std::byte* data, size_t size_bytes, int node);

}  // namespace sentencekv
