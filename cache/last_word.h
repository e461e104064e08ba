// The word before a full stop: is it one that is written with a full stop
// ("Mr.", "e.g.", "J. Smith"), or does the sentence end there?
#pragma once

#include <cstdint>

#include "cache/text_symbols.h"

namespace sentencekv {

// One per text; not thread-safe. Reads every symbol, in order.
class LastWord {
 public:
  void Read(TextSymbol symbol);

  // Whether a full stop, coming next, would belong to an abbreviation: a known
  // one, a single capital, or a letter of "e.g", "p.m", "U.S".
  bool IsAbbreviation() const;

 private:
  uint64_t letters_ = 0;  // the last eight, in small letters; the latest lowest
  int64_t length_ = 0;    // letters of the word
  bool is_open_ = false;  // the last symbol was a letter
  bool is_capital_ = false;    // the last letter
  bool follows_dot_ = false;   // the word follows "x." without white space
  bool after_dotted_ = false;  // the last symbol was the dot of "x."
};

}  // namespace sentencekv
