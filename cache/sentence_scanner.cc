#include "cache/sentence_scanner.h"

#include <algorithm>
#include <utility>

#include "tokenizer/utf8.h"

namespace sentencekv {
namespace {

bool IsTerminator(SymbolKind kind) {
  return kind == SymbolKind::kFullStop || kind == SymbolKind::kSoftEnd ||
         kind == SymbolKind::kHardEnd || kind == SymbolKind::kWideStop;
}

bool IsClauseMark(SymbolKind kind) {
  return kind == SymbolKind::kComma || kind == SymbolKind::kColon ||
         kind == SymbolKind::kWideClause;
}

bool IsWordPart(SymbolKind kind) {
  return IsLetter(kind) || kind == SymbolKind::kDigit ||
         kind == SymbolKind::kIdeograph;
}

}  // namespace

TokenReading SentenceScanner::Read(const TokenMarks& token) {
  reading_ = {};
  switch (token.role) {
    case TokenRole::kTurnOpener:
    case TokenRole::kTurnCloser:
      ReadControl(token.role);
      break;
    case TokenRole::kFragment:
      BeginToken(static_cast<uint8_t>(token.symbols[0]) < 0x80
                     ? static_cast<TextSymbol>(token.symbols[0])
                     : BrokenSymbol());
      ReadFragment(token.symbols);
      break;
    case TokenRole::kText:
      if (token.symbols.empty()) break;
      DropPending();
      BeginToken(static_cast<TextSymbol>(token.symbols[0]));
      for (char symbol : token.symbols) {
        ReadSymbol(static_cast<TextSymbol>(symbol));
      }
      break;
  }
  ++index_;
  return reading_;
}

void SentenceScanner::BeginToken(TextSymbol first) {
  if (num_pending_ > 0) {
    reading_.rank_before = SplitRank::kInCodePoint;
    return;
  }
  reading_.rank_before = RankBefore(KindOf(first));
  if (phase_ == Phase::kText || cut_is_final_) return;
  cut_ = index_;
  cut_is_final_ = num_newlines_ > 0;
}

// A run that nothing has decided yet counts as a clause mark.
SplitRank SentenceScanner::RankBefore(SymbolKind first) const {
  if (phase_ == Phase::kSpaced) return SplitRank::kClause;
  if (phase_ == Phase::kMarked) {
    const bool may_end = IsWhiteSpace(first) || EndsWithoutSpace(first);
    return may_end ? SplitRank::kClause : SplitRank::kInWord;
  }
  const bool is_behind_space = IsWhiteSpace(previous_);
  if (clause_ != SymbolKind::kOther) {
    const bool is_decimal = clause_ == SymbolKind::kComma &&
                            before_mark_ == SymbolKind::kDigit &&
                            first == SymbolKind::kDigit;
    const bool needs_space = is_decimal || clause_ == SymbolKind::kColon;
    if (is_behind_space || IsWhiteSpace(first) || !needs_space) {
      return SplitRank::kClause;
    }
  }
  if (is_behind_space || IsWhiteSpace(first)) return SplitRank::kSpace;
  return IsWordPart(previous_) ? SplitRank::kInWord : SplitRank::kPunctuation;
}

// What begins a turn ends what came before; what ends a turn belongs to it.
void SentenceScanner::ReadControl(TokenRole role) {
  DropPending();
  if (role == TokenRole::kTurnOpener) {
    if (has_text_ && header_ == Header::kNone) {
      reading_.end = index_;
      reading_.ends_inside = false;
      reading_.is_paragraph = true;
    }
    phase_ = Phase::kText;
    header_ = Header::kWord;
  } else {
    BeginRun(Mark::kTurn);
    phase_ = Phase::kSpaced;
    header_ = Header::kNone;
  }
  Remember(BrokenSymbol());
  is_unit_start_ = true;
}

void SentenceScanner::ReadFragment(std::string_view bytes) {
  for (char byte : bytes) {
    pending_[num_pending_++] = byte;
    while (num_pending_ > 0) {
      const std::string_view unread(pending_.data(), num_pending_);
      const Utf8Step step = NextUtf8(unread);
      if (step.kind == Utf8Kind::kIncomplete) break;
      ReadSymbol(step.kind == Utf8Kind::kCodePoint
                     ? SymbolOf(DecodeUtf8(unread.substr(0, step.size)))
                     : BrokenSymbol());
      std::move(pending_.begin() + step.size, pending_.begin() + num_pending_,
                pending_.begin());
      num_pending_ -= step.size;
    }
  }
}

// The code point that had begun will not be completed: what it follows ended
// with the token before this one.
void SentenceScanner::DropPending() {
  if (std::exchange(num_pending_, 0) == 0) return;
  if (phase_ != Phase::kText && !cut_.has_value()) cut_ = index_;
  ReadSymbol(BrokenSymbol());
}

void SentenceScanner::ReadSymbol(TextSymbol symbol) {
  const SymbolKind kind = KindOf(symbol);
  if (!StaysInHeader(kind)) {
    switch (phase_) {
      case Phase::kText:
        ReadText(kind);
        break;
      case Phase::kMarked:
        ReadBehindMark(kind);
        break;
      case Phase::kSpaced:
        ReadInSpace(kind);
        break;
    }
  }
  Remember(symbol);
}

// A header is a control token, the word behind it and the ends of its line:
// "<|im_start|>user\n".
bool SentenceScanner::StaysInHeader(SymbolKind kind) {
  if (header_ == Header::kNone) return false;
  if (kind == SymbolKind::kNewline) {
    header_ = Header::kNewline;
    return true;
  }
  const bool is_in_word = IsWordPart(kind) || kind == SymbolKind::kJoiner;
  const bool stays =
      header_ == Header::kWord ? is_in_word : kind == SymbolKind::kSpace;
  if (!stays) header_ = Header::kNone;
  return stays;
}

void SentenceScanner::ReadText(SymbolKind kind) {
  if (kind == SymbolKind::kNewline) {
    BeginRun(Mark::kNewline);
    ContinueSpace(kind);
  } else if (IsTerminator(kind)) {
    BeginRun(MarkOf(kind));
    before_mark_ = previous_;
  } else if (IsClauseMark(kind)) {
    before_mark_ = previous_;
  }
}

void SentenceScanner::ReadBehindMark(SymbolKind kind) {
  if (IsWhiteSpace(kind)) {
    ContinueSpace(kind);
  } else if (IsTerminator(kind)) {  // "?!", "..."
    const Mark stronger = std::max(mark_, std::max(MarkOf(kind), Mark::kSoft));
    BeginRun(stronger);
  } else if (kind == SymbolKind::kCloser ||
             (kind == SymbolKind::kOpeningQuote && mark_ < Mark::kHard)) {
    return;
  } else {
    phase_ = Phase::kText;
    if (EndsWithoutSpace(kind)) {
      habit_.SawSentence();
      ReportEnd(/*is_paragraph=*/false);
    }
    ReadText(kind);
  }
}

void SentenceScanner::ReadInSpace(SymbolKind kind) {
  if (IsWhiteSpace(kind)) {
    ContinueSpace(kind);
  } else {
    DecideRun(kind);
    ReadText(kind);
  }
}

void SentenceScanner::BeginRun(Mark mark) {
  phase_ = Phase::kMarked;
  mark_ = mark;
  cut_.reset();
  cut_is_final_ = false;
  num_newlines_ = 0;
}

void SentenceScanner::ContinueSpace(SymbolKind kind) {
  phase_ = Phase::kSpaced;
  if (kind != SymbolKind::kNewline) return;
  ++num_newlines_;
  cut_is_final_ = false;
}

// `next` is what follows the white space.
void SentenceScanner::DecideRun(SymbolKind next) {
  phase_ = Phase::kText;
  const bool ends_turn = mark_ == Mark::kTurn;
  const bool ends_sentence =
      mark_ == Mark::kHard ||
      (mark_ == Mark::kSoft && next != SymbolKind::kLowerLetter);
  if (ends_sentence) {
    habit_.SawSentence();
    is_unit_start_ = true;
  } else if (num_newlines_ == 1 && !ends_turn) {
    habit_.SawLine();
  }
  const bool is_paragraph = ends_turn || num_newlines_ >= 2;
  const bool is_line = num_newlines_ == 1 && habit_.LinesAreUnits();
  if (ends_sentence || is_paragraph || is_line) ReportEnd(is_paragraph);
}

void SentenceScanner::ReportEnd(bool is_paragraph) {
  if (!has_text_) return;
  if (cut_.has_value()) {
    reading_.end = *cut_;
  } else {
    reading_.ends_inside = true;
  }
  reading_.is_paragraph |= is_paragraph;
}

SentenceScanner::Mark SentenceScanner::MarkOf(SymbolKind kind) const {
  if (kind == SymbolKind::kHardEnd || kind == SymbolKind::kWideStop) {
    return Mark::kHard;
  }
  const bool is_list_number = is_unit_start_ && previous_ == SymbolKind::kDigit;
  if (kind == SymbolKind::kFullStop &&
      (is_list_number || word_.IsAbbreviation())) {
    return Mark::kWeak;
  }
  return Mark::kSoft;
}

// Whether the mark just read ends a sentence although text follows at once.
bool SentenceScanner::EndsWithoutSpace(SymbolKind next) const {
  if (next == SymbolKind::kCloser) return false;
  if (mark_ == Mark::kHard) {
    const bool is_decimal = previous_ == SymbolKind::kWideStop &&
                            before_mark_ == SymbolKind::kDigit &&
                            next == SymbolKind::kDigit;
    return !is_decimal;
  }
  return mark_ == Mark::kSoft && before_mark_ == SymbolKind::kIdeograph &&
         next == SymbolKind::kIdeograph;
}

void SentenceScanner::Remember(TextSymbol symbol) {
  const SymbolKind kind = KindOf(symbol);
  word_.Read(symbol);
  if (IsClauseMark(kind)) {
    clause_ = kind;
  } else if (!IsWhiteSpace(kind)) {
    clause_ = SymbolKind::kOther;
  }
  if (kind == SymbolKind::kNewline) {
    is_unit_start_ = true;
  } else if (kind != SymbolKind::kSpace && kind != SymbolKind::kDigit) {
    is_unit_start_ = false;
  }
  has_text_ |= !IsWhiteSpace(kind);
  previous_ = kind;
}

}  // namespace sentencekv
