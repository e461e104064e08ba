// Finds stop strings in a text that comes in pieces, and never lets out a
// character that a stop string would have removed.
//
// Which match counts: the one whose last byte comes first and, among those
// that end there, the longest. So the result does not depend on how the text
// was cut into pieces. Bytes are compared; as stop strings and text are whole
// code points, what is let out is too.
//
// Each string is followed by its own Knuth-Morris-Pratt automaton: O(1)
// amortised per byte and string. What is held back is the longest suffix of the
// text that begins some stop string.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sentencekv {

// One per text; not thread-safe.
class StopMatcher {
 public:
  // Empty strings are left out: they would match at once.
  explicit StopMatcher(const std::vector<std::string>& stop_strings);

  // Takes the next piece of text and adds to *out what can be let out by now.
  // When a stop string is complete: returns it; the text ends before it, or
  // behind it with `include_match`; the rest of `piece` is dropped. Nothing
  // may be appended after a match.
  std::optional<std::string> Append(std::string_view piece, bool include_match,
                                    std::string* out);
  // Adds to *out what is held back, when the text ends.
  void Flush(std::string* out);

 private:
  struct Automaton {
    std::string pattern;
    // failure[i]: length of the longest proper prefix of pattern that is a
    // suffix of its first i bytes.
    std::vector<size_t> failure;
    size_t matched = 0;  // bytes of pattern that end the text
  };

  static void Advance(Automaton& automaton, char byte);

  std::vector<Automaton> automata_;
  std::string held_;
};

}  // namespace sentencekv
