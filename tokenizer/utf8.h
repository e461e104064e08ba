// Reading UTF-8 that may be broken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sentencekv {

enum class Utf8Kind : uint8_t {
  kCodePoint,   // a valid sequence
  kIncomplete,  // the text ends inside a sequence that could still be valid
  kInvalid,     // can never become valid
};

// What a non-empty text begins with. `size` bytes belong to it; of an invalid
// stretch that is its "maximal subpart" (Unicode 15, section 3.9), which one
// U+FFFD replaces.
struct Utf8Step {
  Utf8Kind kind;
  uint8_t size;  // 1 to 4
};

// REQUIRES: `text` is not empty.
Utf8Step NextUtf8(std::string_view text);

// True when all of `text` is valid: no surrogates, overlong forms or code
// points above U+10FFFF.
bool IsValidUtf8(std::string_view text);

// U+FFFD, which stands for what is not UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// The bytes of a code point. REQUIRES: below 0x110000.
std::string EncodeUtf8(uint32_t code_point);

// The value of a sequence that NextUtf8 called kCodePoint.
uint32_t DecodeUtf8(std::string_view sequence);

}  // namespace sentencekv
