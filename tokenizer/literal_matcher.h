// Finds fixed strings (control tokens, added tokens) in a text.
//
// A trie: looking at one position costs at most the longest literal, however
// many literals there are. Immutable after the Adds: then any thread may ask.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace sentencekv {

class LiteralMatcher {
 public:
  struct Match {
    int32_t id = 0;
    size_t begin = 0;  // offset in the text
    size_t end = 0;
  };

  // REQUIRES: `literal` is not empty. A literal added twice keeps the later id.
  void Add(std::string_view literal, int32_t id);

  bool empty() const { return ids_.size() == 1; }

  // The longest literal at `position`.
  std::optional<Match> MatchAt(std::string_view text, size_t position) const;

  // The first position from `position` on where a literal begins, and the
  // longest one there.
  std::optional<Match> Find(std::string_view text, size_t position) const;

 private:
  static constexpr int32_t kNoId = -1;

  // Edge (node, byte), packed as node * 256 + byte, to node. Node 0 is the
  // root.
  absl::flat_hash_map<uint64_t, uint32_t> edges_;
  std::vector<int32_t> ids_ = {kNoId};  // [nodes] literal that ends there
  std::array<bool, 256> is_first_byte_ = {};
};

}  // namespace sentencekv
