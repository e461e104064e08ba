#include "cache/device_choosing.h"

#include <algorithm>
#include <utility>

#include "cache/sentence_settings.h"
#include "cache/sentence_state.h"
#include "fmt/format.h"
#include "kernels/check.h"
#include "kernels/rounding.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// Slots are given so many at a time.
constexpr int64_t kSlotStep = 8;

absl::Status NoRoom(const char* what, int64_t value, int64_t most) {
  return absl::ResourceExhaustedError(fmt::format(
      "choosing on the device: {} {}, room for {}", value, what, most));
}

// Pages of runs of tokens: one of c tokens has at most 1 + (c + 14) / 16.
int64_t MostPagesOf(int64_t num_runs, int64_t num_tokens) {
  return num_runs + (num_tokens + num_runs * (kPageTokens - 2)) / kPageTokens;
}

// Of the sentences that are chosen for the budget.
int64_t MostSentencePages(const SelectionLimits& limits,
                          const SentenceLengths& lengths) {
  // Of two sentences, where the sink ends and where the tail begins, a part may
  // be chosen for less than their length.
  const int64_t sentences = lengths.MostWithin(limits.budget) + 2;
  return MostPagesOf(sentences, limits.budget);
}

// Of those and what is always read.
int64_t MostPagesWith(int64_t sentence_pages, const SelectionLimits& limits,
                      const SentenceSpans& spans) {
  const int64_t tail = std::clamp<int64_t>(spans.num_tokens - limits.num_recent,
                                           0, spans.ends.back());
  return std::min(PagesFor(spans.num_tokens),
                  PagesFor(limits.num_sink) + sentence_pages +
                      MostPagesOf(1, spans.num_tokens - tail));
}

bool MayChoose(const SentenceSettings& settings) {
  return settings.strict && settings.trace_sources == 0;
}

}  // namespace

void SentenceLengths::Add(int64_t num_tokens) {
  ++counts_[static_cast<size_t>(std::min(num_tokens, std::ssize(counts_) - 1))];
}

int64_t SentenceLengths::MostWithin(int64_t budget) const {
  int64_t sentences = counts_[0];
  for (int64_t length = 1; length < std::ssize(counts_); ++length) {
    const int64_t there = counts_[static_cast<size_t>(length)];
    const int64_t taken = std::min(there, budget / length);
    sentences += taken;
    budget -= taken * length;
    if (taken < there) break;
  }
  return sentences;
}

int64_t MostChosenPages(const SelectionLimits& limits,
                        const SentenceSpans& spans,
                        const SentenceLengths& lengths) {
  return MostPagesWith(MostSentencePages(limits, lengths), limits, spans);
}

absl::StatusOr<bool> DeviceChoosing::Take(KvMemory& memory,
                                          SentenceState& state,
                                          const StepSequence& step,
                                          const SentenceSpans& spans) {
  ChoosingState& choosing = state.choosing;
  if (choosing.host_chooses) return false;
  if (memory.choosing() != nullptr && MayChoose(state.settings)) {
    const absl::Status prepared = Prepare(memory, state, step, spans);
    if (prepared.ok()) return true;
    if (!absl::IsResourceExhausted(prepared)) return prepared;
  }
  SKV_RETURN_IF_ERROR(GiveToHost(state));
  return false;
}

absl::Status DeviceChoosing::Prepare(KvMemory& memory, SentenceState& state,
                                     const StepSequence& step,
                                     const SentenceSpans& spans) {
  ChoosingMemory& of_memory = *memory.choosing();
  const ChoosingRoom& room = of_memory.chooser().room();
  const auto num_sentences = std::ssize(spans.ends);
  if (std::ssize(rows_) == room.most_rows) {
    return NoRoom("rows", room.most_rows + 1, room.most_rows);
  }
  if (num_sentences > room.most_sentences) {
    return NoRoom("sentences", num_sentences, room.most_sentences);
  }
  if (PagesFor(spans.num_tokens) > room.most_pages) {
    return NoRoom("pages", PagesFor(spans.num_tokens), room.most_pages);
  }
  ChoosingState& choosing = state.choosing;
  if (choosing.there == nullptr) {
    SKV_ASSIGN_OR_RETURN(choosing.there, of_memory.chooser().NewSequence());
    SKV_RETURN_IF_ERROR(choosing.there->SetBudgets(BudgetsOf(state)));
  }
  ChoosingSequence& there = *choosing.there;
  SKV_RETURN_IF_ERROR(AddEnds(state, spans));

  int64_t most = 0;
  std::vector<int32_t> num_slots;
  for (const int64_t sentence_pages : choosing.sentence_pages) {
    const int64_t pages =
        MostPagesWith(sentence_pages, state.settings.limits, spans);
    most = std::max(most, pages);
    num_slots.push_back(static_cast<int32_t>(
        std::min(RoundUp(pages, kSlotStep), room.most_slots)));
  }
  if (most > room.most_slots) return NoRoom("slots", most, room.most_slots);
  SKV_RETURN_IF_ERROR(of_memory.GiveSlots(*step.sequence, num_slots, there));
  SKV_RETURN_IF_ERROR(
      of_memory.TellPages(*step.sequence, spans.num_tokens, there));
  SKV_RETURN_IF_ERROR(SendPriors(memory.backend(), state, num_sentences));
  SKV_RETURN_IF_ERROR(state.PrepareScoring(memory.backend()));
  // Now, as later layers find the entries where they are.
  SKV_RETURN_IF_ERROR(state.ReserveEntries(memory.backend()));
  rows_.push_back({&state, step.sequence, ParamsOf(state, step, spans)});
  rows_.back().params.most_chosen = most;
  return absl::OkStatus();
}

absl::Status DeviceChoosing::AddEnds(SentenceState& state,
                                     const SentenceSpans& spans) {
  ChoosingState& choosing = state.choosing;
  ChoosingSequence& there = *choosing.there;
  const int64_t first = there.num_ends();
  if (first == std::ssize(spans.ends)) return absl::OkStatus();
  for (int64_t i = first; i < std::ssize(spans.ends); ++i) {
    choosing.lengths.Add(spans.end(i) - spans.begin(i));
  }
  choosing.sentence_pages.clear();
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
      choosing.sentence_pages.push_back(
          MostSentencePages(state.LimitsOf(layer, g), choosing.lengths));
    }
  }
  return there.AddEnds(spans.ends.subspan(static_cast<size_t>(first)));
}

std::vector<int32_t> DeviceChoosing::BudgetsOf(
    const SentenceState& state) const {
  std::vector<int32_t> budgets;
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
      budgets.push_back(static_cast<int32_t>(state.LimitsOf(layer, g).budget));
    }
  }
  return budgets;
}

ChoosingRowParams DeviceChoosing::ParamsOf(const SentenceState& state,
                                           const StepSequence& step,
                                           const SentenceSpans& spans) const {
  const SelectionLimits& limits = state.settings.limits;
  const SentenceIndex& index = state.index;
  return {.sequence = state.choosing.there.get(),
          .row = step.row_begin,
          .num_tokens = spans.num_tokens,
          .num_sentences = std::ssize(spans.ends),
          .kind = index.kind(),
          .blocks = index.blocks().at(0, 0),
          .block_stride = index.blocks().stride(),
          .signs = index.signs(0, 0),
          .sign_stride = index.sign_stride(),
          .num_refined = NumRefined(limits.budget),
          .prior = state.choosing.priors.as<float>(),
          .num_prior = state.choosing.num_prior,
          .prior_weight = state.PriorWeight(*step.sequence),
          .query_sums = state.query_sum(0),
          .num_summed = state.num_summed(),
          .blend = state.settings.query_blend,
          .budget = limits.budget,
          .num_sink = limits.num_sink,
          .num_recent = limits.num_recent,
          .reuse_factor = 1.0f + state.settings.reuse_bonus};
}

// Once: sentences that are new have none.
absl::Status DeviceChoosing::SendPriors(Backend& backend, SentenceState& state,
                                        int64_t num_sentences) {
  ChoosingState& choosing = state.choosing;
  SentenceIndex& index = state.index;
  if (choosing.priors.data() != nullptr ||
      index.prior(0, 0, num_sentences) == nullptr) {
    return absl::OkStatus();
  }
  std::vector<float> priors;
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
      const float* const prior = index.prior(layer, g, num_sentences);
      priors.insert(priors.end(), prior, prior + num_sentences);
    }
  }
  const size_t size_bytes = priors.size() * sizeof(float);
  SKV_ASSIGN_OR_RETURN(choosing.priors,
                       backend.Allocate(size_bytes, MemoryUse::kSentenceIndex));
  choosing.num_prior = num_sentences;
  return backend.CopyToDevice(choosing.priors.data(), priors.data(),
                              size_bytes);
}

absl::Status DeviceChoosing::GiveToHost(SentenceState& state) {
  ChoosingState& choosing = state.choosing;
  if (choosing.num_steps > 0) {
    for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
      for (int64_t g = 0; g < shape_.num_kv_heads; ++g) {
        SKV_ASSIGN_OR_RETURN(const std::vector<uint32_t> chosen,
                             choosing.there->ReadChoice(layer, g));
        state.reads.SetChosen(layer, g, chosen);
      }
    }
  }
  choosing = {};
  choosing.host_chooses = true;
  return absl::OkStatus();
}

absl::StatusOr<bool> DeviceChoosing::BringLastPages(
    KvMemory& memory, std::vector<const int32_t*>* written) {
  ChoosingMemory& of_memory = *memory.choosing();
  if (!of_memory.HasRoomFor(shape_.num_layers * std::ssize(rows_))) {
    return false;
  }
  memory.BeginUse();
  written->clear();
  for (int64_t layer = 0; layer < shape_.num_layers; ++layer) {
    for (const Row& row : rows_) {
      const int64_t num_tokens = row.params.num_tokens;
      SKV_ASSIGN_OR_RETURN(const int32_t* const pages,
                           memory.BringToWrite(layer, *row.sequence,
                                               num_tokens - 1, num_tokens));
      written->push_back(pages);
      SKV_RETURN_IF_ERROR(of_memory.BringLastPage(
          layer, *row.sequence, num_tokens, *row.params.sequence));
    }
  }
  SKV_RETURN_IF_ERROR(BeginRows(memory));
  return true;
}

absl::Status DeviceChoosing::BeginRows(KvMemory& memory) {
  std::vector<ChoosingRowParams> params;
  for (const Row& row : rows_) params.push_back(row.params);
  return memory.choosing()->chooser().BeginStep(params);
}

absl::Status DeviceChoosing::Attend(KvMemory& memory,
                                    const AttendInput& input) {
  if (rows_.empty()) return absl::OkStatus();
  if (input.layer == 0) SKV_RETURN_IF_ERROR(BeginRows(memory));
  const auto bring = [&](int64_t i) {
    const Row& row = rows_[static_cast<size_t>(i)];
    return memory.choosing()->BringLastPage(input.layer, *row.sequence,
                                            row.params.num_tokens,
                                            *row.params.sequence);
  };
  const auto attend = [&](int64_t begin, int64_t end) {
    return AttendRows(memory, input, begin, end);
  };
  SKV_RETURN_IF_ERROR(RunInPieces(memory, std::ssize(rows_), bring, attend));
  return EndLayer(memory, input.layer);
}

absl::Status DeviceChoosing::AttendToBrought(KvMemory& memory,
                                             const AttendInput& input) {
  SKV_RETURN_IF_ERROR(AttendRows(memory, input, 0, std::ssize(rows_)));
  return EndLayer(memory, input.layer);
}

absl::Status DeviceChoosing::AttendRows(KvMemory& memory,
                                        const AttendInput& input, int64_t begin,
                                        int64_t end) {
  return memory.choosing()->chooser().Attend(
      {.layer = input.layer,
       .qkv = input.qkv,
       .out = input.out,
       .num_heads = input.num_heads,
       .scale = input.scale,
       .pool = memory.pool().layer(input.layer),
       .frames = memory.chosen_view(input.layer),
       .first_row = begin,
       .num_rows = end - begin});
}

absl::Status DeviceChoosing::EndLayer(KvMemory& memory, int64_t layer) {
  return layer + 1 == shape_.num_layers ? memory.choosing()->chooser().EndStep()
                                        : absl::OkStatus();
}

absl::Status DeviceChoosing::EndStep(KvMemory& memory, ReadTotals* totals) {
  for (size_t i = 0; i < rows_.size(); ++i) {
    const Row& row = rows_[i];
    const ChoosingCounts counts =
        memory.choosing()->chooser().counts(static_cast<int64_t>(i));
    if (counts.has_failed) {
      return absl::InternalError(fmt::format(
          "choosing on the device: a choice did not fit; {} tokens, {} "
          "sentences, up to {} pages",
          row.params.num_tokens, row.params.num_sentences,
          row.params.most_chosen));
    }
    SentenceState& state = *row.state;
    const ReadCounts added = {.steps = 1,
                              .heads = shape_.num_layers * shape_.num_kv_heads,
                              .tokens_attended = counts.tokens,
                              .sentences_chosen = counts.sentences,
                              .sentences_compared = state.choosing.num_steps > 0
                                                        ? counts.sentences
                                                        : 0,
                              .sentences_repeated = counts.repeated};
    ++state.choosing.num_steps;
    state.reads.Add(added);
    totals->counts += added;
    memory.choosing()->AddCounts(*row.sequence, counts);
  }
  rows_.clear();
  return absl::OkStatus();
}

}  // namespace sentencekv
