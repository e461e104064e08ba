#include "cache/kv_policy.h"

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace sentencekv {
namespace {

struct PolicyEntry {
  std::string_view name;
  std::unique_ptr<KvPolicy> (*make)();
};

constexpr PolicyEntry kPolicies[] = {{"full", &MakeFullPolicy}};
constexpr std::string_view kPolicyNames[] = {"full"};

}  // namespace

std::span<const std::string_view> KvPolicyNames() { return kPolicyNames; }

absl::StatusOr<std::unique_ptr<KvPolicy>> MakeKvPolicy(std::string_view name) {
  for (const PolicyEntry& entry : kPolicies) {
    if (entry.name == name) return entry.make();
  }
  return absl::InvalidArgumentError(
      fmt::format("kv policy: no policy of this name; there are {}; got '{}'",
                  fmt::join(KvPolicyNames(), ", "), name));
}

}  // namespace sentencekv
