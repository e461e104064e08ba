#include "engine/sentence_reads.h"

#include <span>
#include <utility>

#include "tokenizer/incremental_decoder.h"

namespace sentencekv {
namespace {

std::string TextOf(std::span<const int32_t> tokens, int64_t begin, int64_t end,
                   const Tokenizer& tokenizer) {
  IncrementalDecoder decoder(tokenizer, /*render_special=*/false,
                             /*at_text_start=*/begin == 0);
  std::string text;
  for (int64_t p = begin; p < end; ++p) {
    text += decoder.Append(tokens[static_cast<size_t>(p)]);
  }
  return text + decoder.Finish();
}

SentenceReads Describe(const ReadSentence& sentence,
                       const ActiveRequest& request,
                       const Tokenizer& tokenizer) {
  SentenceReads reads;
  reads.begin = sentence.begin;
  reads.end = sentence.end;
  reads.text = TextOf(request.tokens, sentence.begin, sentence.end, tokenizer);
  reads.num_selections = sentence.num_selections;
  for (const ReadSource& source : sentence.sources) {
    reads.sources.push_back(
        {source, source.begin >= request.num_prompt(),
         TextOf(request.tokens, source.begin, source.end, tokenizer)});
  }
  return reads;
}

}  // namespace

std::vector<SentenceReads> TakeSentenceReads(ActiveRequest& request,
                                             const Tokenizer& tokenizer,
                                             bool close) {
  if (request.request.kv.trace_sources == 0 || request.lease == nullptr ||
      request.num_tokens() == request.num_prompt()) {
    return {};
  }
  PolicyState* state = request.lease->sequence().policy_state.get();
  std::vector<ReadSentence> sentences;
  if (state != nullptr) {
    sentences =
        state->TakeReads(request.num_prompt(), request.num_tokens(), close);
  } else if (close) {
    // A policy that knows no sentences: all of the answer is one.
    sentences.push_back({request.num_prompt(), request.num_tokens(), 0, {}});
  }
  std::vector<SentenceReads> reads;
  for (const ReadSentence& sentence : sentences) {
    // After a preemption the sentences are made again.
    if (sentence.begin < request.traced_end) continue;
    request.traced_end = sentence.end;
    reads.push_back(Describe(sentence, request, tokenizer));
    // The stop token alone.
    if (reads.back().text.empty()) reads.pop_back();
  }
  return reads;
}

}  // namespace sentencekv
