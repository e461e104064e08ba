#include "tokenizer/literal_matcher.h"

#include "kernels/check.h"

namespace sentencekv {
namespace {

uint64_t Edge(uint32_t node, char byte) {
  return uint64_t{node} << 8 | static_cast<uint8_t>(byte);
}

}  // namespace

void LiteralMatcher::Add(std::string_view literal, int32_t id) {
  SKV_CHECK(!literal.empty());
  is_first_byte_[static_cast<uint8_t>(literal[0])] = true;
  uint32_t node = 0;
  for (char byte : literal) {
    auto [edge, is_new] = edges_.try_emplace(
        Edge(node, byte), static_cast<uint32_t>(ids_.size()));
    if (is_new) ids_.push_back(kNoId);
    node = edge->second;
  }
  ids_[node] = id;
}

std::optional<LiteralMatcher::Match> LiteralMatcher::MatchAt(
    std::string_view text, size_t position) const {
  std::optional<Match> longest;
  uint32_t node = 0;
  for (size_t end = position; end < text.size();) {
    auto edge = edges_.find(Edge(node, text[end]));
    if (edge == edges_.end()) break;
    node = edge->second;
    ++end;
    if (ids_[node] != kNoId) longest = Match{ids_[node], position, end};
  }
  return longest;
}

std::optional<LiteralMatcher::Match> LiteralMatcher::Find(
    std::string_view text, size_t position) const {
  if (empty()) return std::nullopt;
  for (; position < text.size(); ++position) {
    if (!is_first_byte_[static_cast<uint8_t>(text[position])]) continue;
    if (auto match = MatchAt(text, position)) return match;
  }
  return std::nullopt;
}

}  // namespace sentencekv
