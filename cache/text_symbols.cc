#include "cache/text_symbols.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>

namespace sentencekv {
namespace {

// Classes follow the ASCII characters in the order of SymbolKind.
constexpr TextSymbol kFirstClass = 0x80;

constexpr TextSymbol ClassOf(SymbolKind kind) {
  return static_cast<TextSymbol>(kFirstClass + static_cast<uint8_t>(kind));
}

constexpr SymbolKind AsciiKind(char c) {
  constexpr auto kIsIn = [](char wanted, std::string_view set) {
    return set.find(wanted) != set.npos;
  };
  if (c >= 'a' && c <= 'z') return SymbolKind::kLowerLetter;
  if (c >= 'A' && c <= 'Z') return SymbolKind::kUpperLetter;
  if (c >= '0' && c <= '9') return SymbolKind::kDigit;
  if (c == '\n') return SymbolKind::kNewline;
  if (c == '.') return SymbolKind::kFullStop;
  if (c == ':') return SymbolKind::kColon;
  if (kIsIn(c, "_-")) return SymbolKind::kJoiner;
  if (kIsIn(c, " \t\v\f\r")) return SymbolKind::kSpace;
  if (kIsIn(c, "!?")) return SymbolKind::kSoftEnd;
  if (kIsIn(c, ",;")) return SymbolKind::kComma;
  if (kIsIn(c, "\"')]}*`")) return SymbolKind::kCloser;
  return SymbolKind::kOther;
}

constexpr std::array<SymbolKind, 256> MakeKinds() {
  std::array<SymbolKind, 256> kinds{};
  for (int c = 0; c < kFirstClass; ++c) kinds[c] = AsciiKind(char(c));
  for (int kind = 0; kind <= int(SymbolKind::kOpeningQuote); ++kind) {
    kinds[kFirstClass + kind] = static_cast<SymbolKind>(kind);
  }
  return kinds;
}
constexpr std::array<SymbolKind, 256> kKinds = MakeKinds();

// Code points first..last of one kind; kOther where no range says more.
struct Range {
  uint32_t first;
  uint32_t last;
  SymbolKind kind;
};

using enum SymbolKind;

constexpr Range kRanges[] = {
    {0x0085, 0x0085, kNewline},
    {0x00A0, 0x00A0, kSpace},
    {0x00AB, 0x00AB, kOpeningQuote},  // «
    {0x00BB, 0x00BB, kCloser},        // »
    {0x00C0, 0x00DE, kUpperLetter},
    {0x00DF, 0x00F6, kLowerLetter},
    {0x00F7, 0x00F7, kOther},  // ÷
    {0x00F8, 0x00FF, kLowerLetter},
    {0x0100, 0x036F, kUpperLetter},  // Latin, phonetic, accents
    {0x0370, 0x037D, kUpperLetter},
    {0x037F, 0x03AB, kUpperLetter},  // Greek
    {0x03AC, 0x03CE, kLowerLetter},
    {0x03CF, 0x042F, kUpperLetter},  // Cyrillic
    {0x0430, 0x045F, kLowerLetter},
    {0x0460, 0x0556, kUpperLetter},  // Cyrillic, Armenian
    {0x0561, 0x0587, kLowerLetter},
    {0x0589, 0x0589, kHardEnd},     // Armenian ։
    {0x060C, 0x060C, kWideClause},  // Arabic ،
    {0x061B, 0x061B, kWideClause},  // ؛
    {0x061F, 0x061F, kHardEnd},     // ؟
    {0x0660, 0x0669, kDigit},
    {0x06D4, 0x06D4, kHardEnd},  // Urdu ۔
    {0x06F0, 0x06F9, kDigit},
    {0x0964, 0x0965, kHardEnd},  // Indic । ॥
    {0x0966, 0x096F, kDigit},
    {0x0F0D, 0x0F0E, kHardEnd},     // Tibetan
    {0x104A, 0x104A, kWideClause},  // Burmese
    {0x104B, 0x104B, kHardEnd},
    {0x1361, 0x1361, kSpace},       // Ethiopic word space
    {0x1362, 0x1362, kHardEnd},     // ።
    {0x1363, 0x1366, kWideClause},  // ፣ and its like
    {0x1367, 0x1368, kHardEnd},
    {0x1680, 0x1680, kSpace},
    {0x17D4, 0x17D5, kHardEnd},  // Khmer ។ ៕
    {0x1803, 0x1803, kHardEnd},  // Mongolian
    {0x2000, 0x200B, kSpace},
    {0x2013, 0x2014, kWideClause},  // dashes
    {0x2018, 0x2018, kOpeningQuote},
    {0x2019, 0x2019, kCloser},
    {0x201C, 0x201C, kOpeningQuote},
    {0x201D, 0x201D, kCloser},
    {0x2026, 0x2026, kSoftEnd},  // …
    {0x2028, 0x2029, kNewline},
    {0x202F, 0x202F, kSpace},
    {0x203A, 0x203A, kCloser},
    {0x203C, 0x203D, kSoftEnd},
    {0x2048, 0x2049, kSoftEnd},
    {0x205F, 0x205F, kSpace},
    {0x3000, 0x3000, kSpace},
    {0x3001, 0x3001, kWideClause},  // 、
    {0x3002, 0x3002, kHardEnd},     // 。
    {0x3009, 0x3009, kCloser},
    {0x300B, 0x300B, kCloser},
    {0x300D, 0x300D, kCloser},  // 」
    {0x300F, 0x300F, kCloser},
    {0x3011, 0x3011, kCloser},
    {0x3015, 0x3015, kCloser},
    {0x3017, 0x3017, kCloser},
    {0x3019, 0x3019, kCloser},
    {0x301B, 0x301B, kCloser},
    {0x301E, 0x301F, kCloser},
    {0x3040, 0x30FF, kIdeograph},  // kana
    {0x3400, 0x9FFF, kIdeograph},
    {0xF900, 0xFAFF, kIdeograph},
    {0xFE42, 0xFE42, kCloser},
    {0xFE44, 0xFE44, kCloser},
    {0xFEFF, 0xFEFF, kSpace},
    {0xFF01, 0xFF01, kHardEnd},  // ！
    {0xFF02, 0xFF02, kCloser},
    {0xFF07, 0xFF07, kCloser},
    {0xFF09, 0xFF09, kCloser},      // ）
    {0xFF0C, 0xFF0C, kWideClause},  // ，
    {0xFF0E, 0xFF0E, kWideStop},
    {0xFF10, 0xFF19, kDigit},
    {0xFF1A, 0xFF1A, kWideClause},  // ：
    {0xFF1B, 0xFF1B, kHardEnd},     // ；
    {0xFF1F, 0xFF1F, kHardEnd},     // ？
    {0xFF3D, 0xFF3D, kCloser},
    {0xFF5D, 0xFF5D, kCloser},
    {0xFF61, 0xFF61, kHardEnd},  // halfwidth 。
    {0xFF63, 0xFF63, kCloser},
    {0xFF64, 0xFF64, kWideClause},
    {0x20000, 0x3FFFF, kIdeograph},
};

constexpr bool AreInOrder() {
  for (size_t i = 1; i < std::size(kRanges); ++i) {
    if (kRanges[i].first <= kRanges[i - 1].last) return false;
  }
  return true;
}
static_assert(AreInOrder());

}  // namespace

SymbolKind KindOf(TextSymbol symbol) { return kKinds[symbol]; }

TextSymbol SymbolOf(uint32_t code_point) {
  if (code_point < kFirstClass) return static_cast<TextSymbol>(code_point);
  const Range* after = std::upper_bound(
      std::begin(kRanges), std::end(kRanges), code_point,
      [](uint32_t wanted, const Range& range) { return wanted < range.first; });
  if (after == std::begin(kRanges)) return ClassOf(kOther);
  const Range& range = after[-1];
  return ClassOf(code_point <= range.last ? range.kind : kOther);
}

TextSymbol BrokenSymbol() { return ClassOf(SymbolKind::kOther); }

}  // namespace sentencekv
