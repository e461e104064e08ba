// Finds where sentences, lines and paragraphs end in a stream of tokens.
//
// A state machine over symbols of code points. It knows nothing of how long a
// sentence may be: Segmenter decides which of these ends count.
//
// An end is a run: a terminator, closing quotes and brackets, white space. What
// comes after the run decides whether it was one ("3.14", "Mr. Smith"), so the
// scanner speaks one token late; only white space makes it wait longer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "cache/last_word.h"
#include "cache/sentence_marks.h"
#include "cache/text_symbols.h"

namespace sentencekv {

// How well a text may be split between two tokens, where it must be.
enum class SplitRank : uint8_t {
  kInCodePoint,
  kInWord,       // or number
  kPunctuation,  // behind a mark inside a word, number or address
  kSpace,
  kClause,
};

// What a token tells about the text before it.
struct TokenReading {
  SplitRank rank_before = SplitRank::kInWord;  // between it and the one before
  // A sentence, line or paragraph that ended: the number of tokens before its
  // end, at most the number of this token.
  std::optional<int64_t> end;
  // An end that lies inside this token, which therefore belongs to it.
  bool ends_inside = false;
  // A paragraph or turn ended: what ended counts however short it is.
  bool is_paragraph = false;
};

// Whether lines are the units of a text because it has few terminators, as
// code, tables and logs. Looks back over about 8 ends.
class LineHabit {
 public:
  void SawSentence() { Count(sentences_); }
  void SawLine() { Count(lines_); }
  bool LinesAreUnits() const { return sentences_ * 3 < lines_; }

 private:
  static constexpr int32_t kOne = 256;
  void Count(int32_t& ends) {
    sentences_ -= sentences_ / 8;
    lines_ -= lines_ / 8;
    ends += kOne;
  }
  int32_t sentences_ = kOne;  // prose, until two lines say otherwise
  int32_t lines_ = 0;
};

// One per sequence; copyable; one thread.
class SentenceScanner {
 public:
  TokenReading Read(const TokenMarks& token);

 private:
  enum class Phase : uint8_t {
    kText,
    kMarked,  // after a terminator and its closing quotes
    kSpaced,  // in the white space of a run
  };
  // What a run began with, the later the stronger.
  enum class Mark : uint8_t {
    kNewline,
    kWeak,  // the full stop of an abbreviation or of a list's number
    kSoft,  // ends a sentence if white space and no small letter follow
    kHard,
    kTurn,  // a control token that ends a turn
  };
  // Behind a control token: no line ends until the header is over.
  enum class Header : uint8_t { kNone, kWord, kNewline };

  void BeginToken(TextSymbol first);
  SplitRank RankBefore(SymbolKind first) const;
  void ReadControl(TokenRole role);
  void ReadFragment(std::string_view bytes);
  void DropPending();
  void ReadSymbol(TextSymbol symbol);
  // False when the header ends with this symbol.
  bool StaysInHeader(SymbolKind kind);
  void ReadText(SymbolKind kind);
  void ReadBehindMark(SymbolKind kind);
  void ReadInSpace(SymbolKind kind);
  void BeginRun(Mark mark);
  void ContinueSpace(SymbolKind kind);
  void DecideRun(SymbolKind next);
  void ReportEnd(bool is_paragraph);
  Mark MarkOf(SymbolKind kind) const;
  bool EndsWithoutSpace(SymbolKind next) const;
  void Remember(TextSymbol symbol);

  TokenReading reading_;              // of the token that is being read
  int64_t index_ = 0;                 // its number
  std::array<char, 4> pending_ = {};  // bytes of an incomplete code point
  int32_t num_pending_ = 0;

  Phase phase_ = Phase::kText;
  Mark mark_ = Mark::kNewline;
  // Where the sentence ends if the run is its end: tokens before it, or none
  // when no token has begun in the run yet.
  std::optional<int64_t> cut_;
  bool cut_is_final_ = false;  // it lies behind a newline
  int32_t num_newlines_ = 0;   // in the run

  Header header_ = Header::kNone;
  bool has_text_ = false;      // anything but white space so far
  bool is_unit_start_ = true;  // a line or sentence began; digits at most since
  SymbolKind previous_ = SymbolKind::kNewline;
  // The latest clause mark with only white space behind it; else kOther.
  SymbolKind clause_ = SymbolKind::kOther;
  SymbolKind before_mark_ = SymbolKind::kOther;  // before the latest mark
  LastWord word_;
  LineHabit habit_;
};

}  // namespace sentencekv
