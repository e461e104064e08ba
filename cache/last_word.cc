#include "cache/last_word.h"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace sentencekv {
namespace {

// Letters of a word in the order in which LastWord shifts them in.
constexpr uint64_t Pack(std::string_view word) {
  uint64_t letters = 0;
  for (char letter : word)
    letters = letters << 8 | static_cast<uint8_t>(letter);
  return letters;
}

// Words that are rarely the last of a sentence, and usually abbreviated. "no"
// and "sun" are not among them: they end sentences more often.
constexpr uint64_t kAbbreviations[] = {
    Pack("mr"),   Pack("mrs"),  Pack("ms"),     Pack("dr"),     Pack("prof"),
    Pack("st"),   Pack("jr"),   Pack("sr"),     Pack("messrs"), Pack("vs"),
    Pack("cf"),   Pack("al"),   Pack("ca"),     Pack("viz"),    Pack("fig"),
    Pack("figs"), Pack("eq"),   Pack("eqs"),    Pack("sec"),    Pack("ch"),
    Pack("vol"),  Pack("nos"),  Pack("pp"),     Pack("ed"),     Pack("eds"),
    Pack("ref"),  Pack("refs"), Pack("approx"), Pack("inc"),    Pack("ltd"),
    Pack("corp"), Pack("dept"), Pack("univ"),   Pack("gen"),    Pack("gov"),
    Pack("sen"),  Pack("rep"),  Pack("rev"),    Pack("hon"),    Pack("capt"),
    Pack("lt"),   Pack("sgt"),  Pack("col"),    Pack("jan"),    Pack("feb"),
    Pack("apr"),  Pack("aug"),  Pack("sept"),   Pack("oct"),    Pack("nov"),
    Pack("dec"),  Pack("mt"),   Pack("ave"),    Pack("blvd"),   Pack("etc"),
    Pack("bzw"),  Pack("usw"),  Pack("nr"),
};
constexpr int64_t kLongestAbbreviation = 6;

}  // namespace

void LastWord::Read(TextSymbol symbol) {
  const SymbolKind kind = KindOf(symbol);
  if (IsLetter(kind)) {
    if (!is_open_) {
      letters_ = 0;
      length_ = 0;
      follows_dot_ = after_dotted_;
    }
    const bool is_ascii_capital = symbol >= 'A' && symbol <= 'Z';
    letters_ = letters_ << 8 | (is_ascii_capital ? symbol + 0x20u : symbol);
    ++length_;
    is_capital_ = kind == SymbolKind::kUpperLetter;
  }
  after_dotted_ = is_open_ && kind == SymbolKind::kFullStop;
  is_open_ = IsLetter(kind);
}

bool LastWord::IsAbbreviation() const {
  if (!is_open_) return false;
  if (length_ == 1) return is_capital_ || follows_dot_;
  return length_ <= kLongestAbbreviation &&
         std::find(std::begin(kAbbreviations), std::end(kAbbreviations),
                   letters_) != std::end(kAbbreviations);
}

}  // namespace sentencekv
