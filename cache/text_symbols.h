// Code points as sentence segmentation sees them: one byte each.
//
// An ASCII character is its own symbol, so that words can still be read (is
// this "Mr."?); all others are one of a few classes. Pure functions.
#pragma once

#include <cstdint>

namespace sentencekv {

// 0..0x7F: that ASCII character; above: a class of other code points.
using TextSymbol = uint8_t;

// What a symbol means to the state machine.
enum class SymbolKind : uint8_t {
  kOther,
  kLowerLetter,
  kUpperLetter,  // and letters that are neither
  kIdeograph,    // and kana: scripts that set no space after a full stop
  kDigit,
  kJoiner,  // '_' and '-', which may be part of a name
  kSpace,
  kNewline,
  kFullStop,      // .
  kSoftEnd,       // ! ? and the ellipsis: end where white space follows
  kHardEnd,       // 。 । ؟ and their like: end whatever follows
  kWideStop,      // U+FF0E: as kHardEnd, but not between digits
  kComma,         // clause marks, not between digits
  kColon,         // a clause mark where white space follows
  kWideClause,    // a clause mark whatever surrounds it
  kCloser,        // closing brackets and quotes, and marks of emphasis
  kOpeningQuote,  // quotes that open in some languages and close in others
};

SymbolKind KindOf(TextSymbol symbol);

// The symbol of a code point; any value is accepted.
TextSymbol SymbolOf(uint32_t code_point);

// What stands for bytes that are not UTF-8.
TextSymbol BrokenSymbol();

inline bool IsLetter(SymbolKind kind) {
  return kind == SymbolKind::kLowerLetter || kind == SymbolKind::kUpperLetter;
}
inline bool IsWhiteSpace(SymbolKind kind) {
  return kind == SymbolKind::kSpace || kind == SymbolKind::kNewline;
}

}  // namespace sentencekv
