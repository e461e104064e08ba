// Device memory, and host memory that the device can reach.
//
// Device memory lies in one range of addresses that nobody but running
// operations can touch. Every allocation has pages of its own and untouchable
// ones around it; addresses are never used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cuda_sim {

struct Region {
  uintptr_t begin = 0;
  size_t size_bytes = 0;
  bool is_device = false;
  bool is_registered = false;  // the program's own memory, made pinned
  bool is_live = true;
  bool is_divided = false;  // into the blocks of MarkBlock

  uintptr_t end() const { return begin + size_bytes; }
};
std::string Told(const Region& region);

// The region that has this address, live or not, or the block of a region that
// is divided; nullptr: none ever had.
const Region* FindRegion(uintptr_t address);
// The last that begins at or below it.
const Region* NearestRegion(uintptr_t address);
bool IsInDeviceArena(uintptr_t address);
// Whether a live region has all of it.
bool IsReachable(uintptr_t address, size_t size_bytes);

// A block of a region that is divided begins or ends; device memory is open.
void SetBlock(void* data, size_t size_bytes, bool is_taken);

// While one lives, device memory can be touched.
class OpenDeviceMemory {
 public:
  OpenDeviceMemory();
  ~OpenDeviceMemory();
  OpenDeviceMemory(const OpenDeviceMemory&) = delete;
  OpenDeviceMemory& operator=(const OpenDeviceMemory&) = delete;
};

// Closes what a touch by the host has opened.
void CloseAfterHostTouch();

// For the calls that allocate.
inline constexpr size_t kPage = 4096;
inline size_t RoundUpToPage(size_t size) {
  return (size + kPage - 1) / kPage * kPage;
}
// Untouched memory of the device, with a page before and after it.
std::byte* TakeFromArena(size_t size_bytes);
void AddRegion(void* begin, size_t size_bytes, bool is_device,
               bool is_registered);
void EndRegion(Region* region);
// nullptr: no live one begins there.
Region* LiveRegionAt(const void* begin);

void ResetMemory(size_t device_bytes);
size_t DeviceBytes();
int64_t LiveDeviceBytes();
int64_t LivePinnedBytes();

}  // namespace cuda_sim
