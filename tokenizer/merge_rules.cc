#include "tokenizer/merge_rules.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

using TokenIds = absl::flat_hash_map<std::string_view, int32_t>;

std::optional<int32_t> FindToken(const TokenIds& ids, std::string_view token) {
  auto found = ids.find(token);
  if (found == ids.end()) return std::nullopt;
  return found->second;
}

}  // namespace

absl::StatusOr<BpeMerges> ReadMergeRules(const Vocabulary& vocabulary) {
  TokenIds ids;
  ids.reserve(vocabulary.tokens.size());
  for (const std::string& token : vocabulary.tokens) {
    ids.try_emplace(token, static_cast<int32_t>(ids.size()));
  }
  BpeMerges merges;
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    std::string_view merge = vocabulary.merges[rank];
    auto refuse = [&](std::string_view why) {
      return absl::InvalidArgumentError(fmt::format(
          "vocabulary: merges[{}] {}: {}", rank, why, Quoted(merge)));
    };
    size_t space = merge.find(' ');
    if (space == std::string_view::npos || space == 0 ||
        space + 1 == merge.size() || merge.find(' ', space + 1) != merge.npos) {
      return refuse("is not two tokens with a space between");
    }
    std::string joined(merge);
    joined.erase(space, 1);
    auto left = FindToken(ids, merge.substr(0, space));
    auto right = FindToken(ids, merge.substr(space + 1));
    auto result = FindToken(ids, joined);
    if (!left || !right || !result) return refuse("is not made of tokens");
    if (!merges.Add(*left, *right, *result)) return refuse("is there twice");
  }
  return merges;
}

}  // namespace sentencekv
