#include "tokenizer/pretokenizer.h"

#include <fmt/format.h>

#include <limits>
#include <optional>
#include <string>

#include "kernels/check.h"
#include "kernels/quoted.h"
#include "kernels/status_macros.h"
#include "tokenizer/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace sentencekv {
namespace {

// White space as Unicode defines it. PCRE2's own \s also takes U+180E, which
// Unicode 6.3 removed.
#define SKV_SPACE                                                  \
  R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029})" \
  R"(\x{202F}\x{205F}\x{3000})"

// GPT-2 (Radford et al., 2019): contractions, then letters, digits or others
// with at most one space before them, then white space; the last space of a
// run is left to the word after it.
constexpr std::string_view kGpt2 =
    "'s|'t|'re|'ve|'m|'ll|'d"
    R"(| ?\p{L}+| ?\p{N}+| ?[^\p{L}\p{N})" SKV_SPACE
    "]+"
    "|[" SKV_SPACE "]+(?![^" SKV_SPACE
    "])"
    "|[" SKV_SPACE "]+";

// Llama 3: contractions in either case, any one mark before a word, at most
// three digits together, line ends kept with what they follow.
constexpr std::string_view kLlama3 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\p{L}\p{N})" SKV_SPACE R"(]+[\r\n]*)"
    "|[" SKV_SPACE R"(]*[\r\n]+)"
    "|[" SKV_SPACE "]+(?![^" SKV_SPACE
    "])"
    "|[" SKV_SPACE "]+";

// SmolLM takes every numeric character out before GPT-2's pattern runs.
constexpr std::string_view kOneDigit = R"(\p{N})";

#undef SKV_SPACE

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
using MatchData = std::unique_ptr<pcre2_match_data, MatchDataDeleter>;

}  // namespace

// A compiled expression; read-only after construction.
class Pretokenizer::Pattern {
 public:
  explicit Pattern(std::string_view expression) {
    int error = 0;
    PCRE2_SIZE error_offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()),
                          expression.size(), PCRE2_UTF | PCRE2_UCP, &error,
                          &error_offset, nullptr);
    SKV_CHECK(code_ != nullptr);  // the expressions are constants
    // Without a JIT (not every platform has one) the interpreter does it.
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);
    context_ = pcre2_match_context_create(nullptr);
    SKV_CHECK(context_ != nullptr);
    // A run of white space is backed over once, a step a character: limits
    // meant for patterns that explode would only stop honest long texts.
    pcre2_set_match_limit(context_, std::numeric_limits<uint32_t>::max());
    pcre2_set_depth_limit(context_, std::numeric_limits<uint32_t>::max());
    pcre2_set_heap_limit(context_, std::numeric_limits<uint32_t>::max());
  }
  ~Pattern() {
    pcre2_match_context_free(context_);
    pcre2_code_free(code_);
  }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  MatchData MakeMatchData() const {
    return MatchData(pcre2_match_data_create_from_pattern(code_, nullptr));
  }

  struct Match {
    size_t begin;
    size_t end;
  };
  // The first match from `position` on; nothing when there is none.
  // REQUIRES: `text` is valid UTF-8.
  absl::StatusOr<std::optional<Match>> Find(std::string_view text,
                                            size_t position,
                                            pcre2_match_data* data) const {
    auto run = [&](uint32_t options) {
      return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()),
                         text.size(), position, options | PCRE2_NO_UTF_CHECK,
                         data, context_);
    };
    int result = run(0);
    // The interpreter keeps its stack on the heap.
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (result < 0) {
      return absl::InternalError(
          fmt::format("pre-tokenisation failed: PCRE2 error {}", result));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
    SKV_CHECK(ends[1] > ends[0]);  // no expression matches an empty string
    return Match{ends[0], ends[1]};
  }

 private:
  pcre2_code* code_;
  pcre2_match_context* context_;
};

Pretokenizer::Pretokenizer() = default;
Pretokenizer::~Pretokenizer() = default;

absl::StatusOr<std::unique_ptr<Pretokenizer>> Pretokenizer::Make(
    std::string_view name) {
  std::unique_ptr<Pretokenizer> made(new Pretokenizer);
  auto add = [&made](std::string_view expression) {
    made->patterns_.push_back(std::make_unique<Pattern>(expression));
  };
  if (name == "gpt-2" || name == "gpt2") {
    add(kGpt2);
  } else if (name == "smollm") {
    add(kOneDigit);
    add(kGpt2);
  } else if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    add(kLlama3);
    made->ignore_merges_ = true;
  } else {
    return absl::InvalidArgumentError(fmt::format(
        "pre-tokenisation is not supported (gpt-2, llama-bpe and smollm are): "
        "{}",
        Quoted(name)));
  }
  return made;
}

namespace {

// `text` itself when it is valid UTF-8. Else a copy of the same length in
// `storage`, in which U+0001 stands for each byte that is not: like most
// broken text it is neither letter, digit nor space.
std::string_view MakeValid(std::string_view text, std::string& storage) {
  if (IsValidUtf8(text)) return text;
  storage = text;
  for (size_t i = 0; i < text.size();) {
    Utf8Step step = NextUtf8(text.substr(i));
    if (step.kind != Utf8Kind::kCodePoint) {
      storage.replace(i, step.size, step.size, '\x01');
    }
    i += step.size;
  }
  return storage;
}

}  // namespace

absl::StatusOr<std::vector<std::string_view>> Pretokenizer::Split(
    std::string_view text) const {
  std::vector<std::string_view> words;
  if (text.empty()) return words;
  std::string storage;
  std::string_view valid = MakeValid(text, storage);
  // Words are cut in `valid` first; the offsets are the same in `text`.
  words.push_back(valid);
  for (const auto& pattern : patterns_) {
    MatchData data = pattern->MakeMatchData();
    if (data == nullptr) return absl::ResourceExhaustedError("no memory");
    std::vector<std::string_view> finer;
    finer.reserve(words.size() + valid.size() / 4);
    for (std::string_view word : words) {
      size_t position = 0;
      while (position < word.size()) {
        SKV_ASSIGN_OR_RETURN(auto match,
                             pattern->Find(word, position, data.get()));
        size_t begin = match ? match->begin : word.size();
        if (begin > position) {
          finer.push_back(word.substr(position, begin - position));
        }
        if (!match) break;
        finer.push_back(word.substr(begin, match->end - begin));
        position = match->end;
      }
    }
    words = std::move(finer);
  }
  for (std::string_view& word : words) {
    word = text.substr(word.data() - valid.data(), word.size());
  }
  return words;
}

}  // namespace sentencekv
