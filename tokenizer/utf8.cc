#include "tokenizer/utf8.h"

#include <algorithm>

namespace sentencekv {
namespace {

// The shape of a sequence by its first byte: its length, and the range of its
// second byte, which excludes overlong forms, surrogates and what is above
// U+10FFFF (Unicode 15, table 3-7). Length 0: no sequence begins so.
struct Lead {
  uint8_t length;
  uint8_t second_low = 0x80;
  uint8_t second_high = 0xBF;
};

Lead ReadLead(uint8_t byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

}  // namespace

Utf8Step NextUtf8(std::string_view text) {
  Lead lead = ReadLead(static_cast<uint8_t>(text[0]));
  if (lead.length == 0) return {Utf8Kind::kInvalid, 1};
  size_t available = std::min<size_t>(lead.length, text.size());
  for (uint8_t i = 1; i < available; ++i) {
    uint8_t byte = static_cast<uint8_t>(text[i]);
    uint8_t low = i == 1 ? lead.second_low : 0x80;
    uint8_t high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Kind::kInvalid, i};
  }
  if (available < lead.length) {
    return {Utf8Kind::kIncomplete, static_cast<uint8_t>(available)};
  }
  return {Utf8Kind::kCodePoint, lead.length};
}

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    Utf8Step step = NextUtf8(text);
    if (step.kind != Utf8Kind::kCodePoint) return false;
    text.remove_prefix(step.size);
  }
  return true;
}

std::string EncodeUtf8(uint32_t code_point) {
  auto trail = [code_point](int shift) {
    return static_cast<char>(0x80 | ((code_point >> shift) & 0x3F));
  };
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  if (code_point < 0x800) {
    return {static_cast<char>(0xC0 | (code_point >> 6)), trail(0)};
  }
  if (code_point < 0x10000) {
    return {static_cast<char>(0xE0 | (code_point >> 12)), trail(6), trail(0)};
  }
  return {static_cast<char>(0xF0 | (code_point >> 18)), trail(12), trail(6),
          trail(0)};
}

uint32_t DecodeUtf8(std::string_view sequence) {
  uint8_t first = static_cast<uint8_t>(sequence[0]);
  if (sequence.size() == 1) return first;
  uint32_t code_point = first & (0x7Fu >> sequence.size());
  for (char byte : sequence.substr(1)) {
    code_point = code_point << 6 | (static_cast<uint8_t>(byte) & 0x3F);
  }
  return code_point;
}

}  // namespace sentencekv
