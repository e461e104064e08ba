#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace sentencekv {

StopMatcher::StopMatcher(const std::vector<std::string>& stop_strings) {
  for (const std::string& pattern : stop_strings) {
    if (pattern.empty()) continue;
    Automaton automaton;
    automaton.pattern = pattern;
    automaton.failure.assign(pattern.size() + 1, 0);
    size_t length = 0;
    for (size_t i = 1; i < pattern.size(); ++i) {
      while (length > 0 && pattern[i] != pattern[length]) {
        length = automaton.failure[length];
      }
      if (pattern[i] == pattern[length]) ++length;
      automaton.failure[i + 1] = length;
    }
    automata_.push_back(std::move(automaton));
  }
}

void StopMatcher::Advance(Automaton& automaton, char byte) {
  size_t& matched = automaton.matched;
  while (matched > 0 && automaton.pattern[matched] != byte) {
    matched = automaton.failure[matched];
  }
  if (automaton.pattern[matched] == byte) ++matched;
}

std::optional<std::string> StopMatcher::Append(std::string_view piece,
                                               bool include_match,
                                               std::string* out) {
  if (automata_.empty()) {
    out->append(piece);
    return std::nullopt;
  }
  size_t keep = 0;  // bytes at the end that may begin a stop string
  for (const char byte : piece) {
    held_.push_back(byte);
    const Automaton* match = nullptr;
    keep = 0;
    for (Automaton& automaton : automata_) {
      Advance(automaton, byte);
      keep = std::max(keep, automaton.matched);
      const size_t size = automaton.pattern.size();
      if (automaton.matched == size &&
          (match == nullptr || size > match->pattern.size())) {
        match = &automaton;
      }
    }
    if (match != nullptr) {
      const size_t dropped = include_match ? 0 : match->pattern.size();
      out->append(held_, 0, held_.size() - dropped);
      held_.clear();
      return match->pattern;
    }
  }
  if (piece.empty()) return std::nullopt;
  out->append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return std::nullopt;
}

void StopMatcher::Flush(std::string* out) {
  out->append(held_);
  held_.clear();
}

}  // namespace sentencekv
