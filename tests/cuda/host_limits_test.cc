#include "kernels/cuda/host_limits.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/numa_node.h"
#include "tests/support/test_files.h"

namespace sentencekv {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// A machine of files: what a test does not write is not there.
class HostLimitsTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  // Refused, and the message has all of `words`.
  void ExpectRefused(size_t size_bytes, const std::vector<std::string>& words) {
    const absl::Status status = CheckHostLimits(size_bytes, root_);
    ASSERT_TRUE(absl::IsResourceExhausted(status)) << status;
    for (const std::string& word : words) {
      EXPECT_NE(status.message().find(word), absl::string_view::npos)
          << word << ": " << status;
    }
  }
  void ExpectFine(size_t size_bytes) {
    const absl::Status status = CheckHostLimits(size_bytes, root_);
    EXPECT_TRUE(status.ok()) << status;
  }

  const std::string root_ = MakeTempDir() + "/";
};

TEST_F(HostLimitsTest, NoFilesAreNoLimits) { ExpectFine(size_t{1} << 60); }

TEST_F(HostLimitsTest, TheMachineMustHaveIt) {
  Write("proc/meminfo",
        "MemTotal:       4096 kB\nMemFree:  1 kB\nMemAvailable:  2048 kB\n");
  ExpectFine(2 * kMiB);
  ExpectRefused(2 * kMiB + 1024, {"2098176 bytes", "2.0 MiB", "2048 KiB",
                                  root_ + "proc/meminfo"});
}

TEST_F(HostLimitsTest, TheContainersLimitMustHoldIt) {
  Write("proc/self/cgroup", "0::/\n");
  Write("sys/fs/cgroup/memory.max", "10485760\n");
  ExpectFine(10 * kMiB);
  Write("sys/fs/cgroup/memory.current", "8388608\n");
  ExpectFine(2 * kMiB);
  ExpectRefused(3 * kMiB, {"cannot lock 3145728 bytes (3.0 MiB)",
                           root_ + "sys/fs/cgroup/memory.max is 10485760 bytes",
                           "8388608 are in use"});
  // Files that were read are given up when memory is wanted.
  Write("sys/fs/cgroup/memory.stat",
        "anon 2097152\nfile 6291456\nactive_file 2097152\ninactive_file "
        "4194304\n");
  ExpectFine(8 * kMiB);
  ExpectRefused(8 * kMiB + 1, {"2097152 are in use"});
  Write("sys/fs/cgroup/memory.max", "max\n");
  ExpectFine(100 * kMiB);
}

TEST_F(HostLimitsTest, LimitsHoldForEverythingBelow) {
  Write("proc/self/cgroup", "0::/a.slice/b/c\n");
  Write("sys/fs/cgroup/a.slice/b/c/memory.max", "max\n");
  Write("sys/fs/cgroup/a.slice/b/memory.max", "max\n");
  for (const std::string& folder :
       {std::string("/a.slice/b/c/"), std::string("/a.slice/b/"),
        std::string("/a.slice/"), std::string("/")}) {
    SCOPED_TRACE(folder);
    const std::string path = "sys/fs/cgroup" + folder + "memory.max";
    Write(path, "4194304\n");
    ExpectFine(4 * kMiB);
    ExpectRefused(5 * kMiB, {root_ + path + " is 4194304 bytes"});
    Write(path, "max\n");
    ExpectFine(5 * kMiB);
  }
}

// The group's name is of another machine's view: the container has its own.
TEST_F(HostLimitsTest, AGroupThatIsNotThereIsSkipped) {
  Write("proc/self/cgroup", "0::/docker/0123/x\n");
  Write("sys/fs/cgroup/memory.max", "4194304\n");
  ExpectRefused(5 * kMiB, {"sys/fs/cgroup/memory.max"});
}

TEST_F(HostLimitsTest, VersionOneHasLimitsToo) {
  Write("proc/self/cgroup",
        "5:cpu,cpuacct:/x\n4:memory,hugetlb:/docker/1\n0::/\n");
  const std::string folder = "sys/fs/cgroup/memory/docker/1/";
  Write(folder + "memory.limit_in_bytes", "9223372036854771712\n");
  ExpectFine(100 * kMiB);
  Write(folder + "memory.limit_in_bytes", "8388608\n");
  Write(folder + "memory.usage_in_bytes", "6291456\n");
  ExpectRefused(3 * kMiB, {root_ + folder + "memory.limit_in_bytes",
                           "8388608 bytes", "6291456 are in use"});
  Write(folder + "memory.stat",
        "active_file 1\ntotal_active_file 1048576\ntotal_inactive_file 0\n");
  ExpectFine(3 * kMiB);
  // Of another controller.
  Write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1\n");
  ExpectFine(3 * kMiB);
}

TEST_F(HostLimitsTest, NonsenseIsNoLimit) {
  Write("proc/self/cgroup", "nonsense\n::\n0::relative\n7:memory\n");
  Write("proc/meminfo", "MemAvailable: much\n");
  Write("sys/fs/cgroup/memory.max", "little\n");
  ExpectFine(100 * kMiB);
}

TEST_F(HostLimitsTest, ThisMachineLetsALittleBeLocked) {
  const absl::Status status = CheckHostLimits(kMiB);
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(HostLimitsTest, FindsTheNodeOfADevice) {
  Write("sys/bus/pci/devices/0000:3b:00.0/numa_node", "1\n");
  Write("sys/bus/pci/devices/0000:3c:00.0/numa_node", "-1\n");
  EXPECT_EQ(NumaNodeOf("0000:3B:00.0", root_), 1);
  EXPECT_EQ(NumaNodeOf("0000:3C:00.0", root_), -1);
  EXPECT_EQ(NumaNodeOf("0000:3D:00.0", root_), -1);
}

}  // namespace
}  // namespace sentencekv
