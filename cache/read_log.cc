#include "cache/read_log.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/check.h"

namespace sentencekv {
namespace {

constexpr size_t kWordBits = 64;

double Ratio(int64_t part, int64_t whole) {
  return whole == 0 ? 0
                    : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

ReadCounts& ReadCounts::operator+=(const ReadCounts& other) {
  steps += other.steps;
  heads += other.heads;
  tokens_attended += other.tokens_attended;
  sentences_chosen += other.sentences_chosen;
  sentences_compared += other.sentences_compared;
  sentences_repeated += other.sentences_repeated;
  return *this;
}

double ReadCounts::TokensPerStep() const {
  return Ratio(tokens_attended, heads);
}

double ReadCounts::Overlap() const {
  return Ratio(sentences_repeated, sentences_compared);
}

ReadLog::ReadLog(int64_t num_layers, int64_t num_kv_heads, int64_t most_sources)
    : num_kv_heads_(num_kv_heads),
      most_sources_(most_sources),
      last_(static_cast<size_t>(num_layers * num_kv_heads)) {}

ReadCounts ReadLog::AddSelection(const SelectionLimits& limits,
                                 const HeadSelection& selection) {
  const auto num_chosen = static_cast<int64_t>(selection.sentences.size());
  ReadCounts added;
  added.steps = selection.layer == 0 && selection.kv_head == 0 ? 1 : 0;
  added.heads = 1;
  added.tokens_attended = selection.num_attended;
  added.sentences_chosen = num_chosen;

  chosen_.assign(selection.spans.ends.size() / kWordBits + 1, 0);
  for (const int32_t sentence : selection.sentences) {
    const auto bit = static_cast<size_t>(sentence);
    chosen_[bit / kWordBits] |= uint64_t{1} << (bit % kWordBits);
  }
  std::vector<uint64_t>& last = last_[static_cast<size_t>(
      selection.layer * num_kv_heads_ + selection.kv_head)];
  if (!last.empty()) {
    added.sentences_compared = num_chosen;
    const size_t num_words = std::min(last.size(), chosen_.size());
    for (size_t i = 0; i < num_words; ++i) {
      added.sentences_repeated += std::popcount(last[i] & chosen_[i]);
    }
  }
  std::swap(last, chosen_);

  if (most_sources_ > 0) Trace(limits, selection);
  counts_ += added;
  return added;
}

ReadCounts ReadLog::AddWhole(int64_t layer, int64_t num_tokens) {
  ReadCounts added;
  added.steps = layer == 0 ? 1 : 0;
  added.heads = num_kv_heads_;
  added.tokens_attended = num_tokens * num_kv_heads_;
  counts_ += added;
  return added;
}

void ReadLog::SetChosen(int64_t layer, int64_t kv_head,
                        std::span<const uint32_t> chosen) {
  std::vector<uint64_t>& last =
      last_[static_cast<size_t>(layer * num_kv_heads_ + kv_head)];
  last.assign(chosen.size() / 2 + 1, 0);
  for (size_t i = 0; i < chosen.size(); ++i) {
    last[i / 2] |= uint64_t{chosen[i]} << (i % 2 * 32);
  }
}

bool ReadLog::WasChosen(int64_t layer, int64_t kv_head,
                        int32_t sentence) const {
  const std::vector<uint64_t>& last =
      last_[static_cast<size_t>(layer * num_kv_heads_ + kv_head)];
  const auto bit = static_cast<size_t>(sentence);
  return bit / kWordBits < last.size() &&
         (last[bit / kWordBits] >> (bit % kWordBits) & 1) != 0;
}

void ReadLog::Trace(const SelectionLimits& limits,
                    const HeadSelection& selection) {
  const SentenceSpans& spans = selection.spans;
  // The row's token is the last of num_tokens; the step gives the next.
  const int64_t position = spans.num_tokens;
  if (steps_.empty() || steps_.back().position != position) {
    const size_t num_sentences = spans.ends.size();
    steps_.push_back({position, 0, std::vector<double>(num_sentences),
                      std::vector<int32_t>(num_sentences)});
  }
  Step& step = steps_.back();
  ++step.num_selections;
  double sum = 0;
  for (const float score : selection.scores) sum += static_cast<double>(score);
  for (const int32_t sentence : selection.sentences) {
    const auto i = static_cast<size_t>(sentence);
    ++step.times_chosen[i];
    // Where the text begins every head puts what it has no use for.
    if (sum <= 0 || spans.begin(sentence) < limits.num_sink) continue;
    const double share = static_cast<double>(selection.scores[i]) / sum;
    step.focus[i] += share * share;
  }
}

std::vector<ReadSentence> ReadLog::TakeSentences(const SentenceSpans& spans,
                                                 int64_t num_prompt,
                                                 bool close) {
  SKV_CHECK(most_sources_ > 0);
  taken_end_ = std::max(taken_end_, num_prompt);
  std::vector<ReadSentence> taken;
  const auto take_until = [&](int64_t end) {
    taken.push_back(Take(spans, taken_end_, end));
    taken_end_ = end;
  };
  for (auto end = std::ranges::upper_bound(spans.ends, taken_end_);
       end != spans.ends.end(); ++end) {
    take_until(*end);
  }
  if (close && spans.num_tokens > taken_end_) take_until(spans.num_tokens);
  return taken;
}

ReadSentence ReadLog::Take(const SentenceSpans& spans, int64_t begin,
                           int64_t end) {
  ReadSentence sentence;
  sentence.begin = begin;
  sentence.end = end;
  std::vector<ReadSource> sources(spans.ends.size());
  double focus = 0;
  for (; !steps_.empty() && steps_.front().position < end; steps_.pop_front()) {
    const Step& step = steps_.front();
    if (step.position < begin) continue;
    sentence.num_selections += step.num_selections;
    for (size_t i = 0; i < step.focus.size(); ++i) {
      sources[i].share += step.focus[i];
      sources[i].times_chosen += step.times_chosen[i];
      focus += step.focus[i];
    }
  }
  for (size_t i = 0; i < sources.size(); ++i) {
    sources[i].begin = spans.begin(static_cast<int64_t>(i));
    sources[i].end = spans.end(static_cast<int64_t>(i));
    if (focus > 0) sources[i].share /= focus;
  }
  std::erase_if(sources, [](const ReadSource& source) {
    return source.times_chosen == 0 || source.share <= 0;
  });
  std::ranges::sort(sources, [](const ReadSource& a, const ReadSource& b) {
    return a.share != b.share ? a.share > b.share : a.begin < b.begin;
  });
  if (std::ssize(sources) > most_sources_) {
    sources.resize(static_cast<size_t>(most_sources_));
  }
  sentence.sources = std::move(sources);
  return sentence;
}

}  // namespace sentencekv
