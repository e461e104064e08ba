#include "server/request_translation.h"

#include <algorithm>
#include <string>
#include <utility>

#include "cache/kv_policy.h"
#include "server/request_validation.h"

namespace sentencekv {
namespace {

using Tokens = std::vector<int32_t>;

grpc::Status Invalid(std::string_view field, std::string description) {
  const FieldViolation violation = {std::string(field), std::move(description)};
  return InvalidRequest({&violation, 1});
}

// A tokenizer's or chat format's answer: what it does not take is the
// client's mistake, anything else ours.
grpc::Status FromTokenizer(absl::StatusOr<Tokens> result,
                           std::string_view field, Tokens* tokens) {
  if (!result.ok()) return Refused(result.status(), field);
  *tokens = *std::move(result);
  return grpc::Status::OK;
}

grpc::Status EncodeText(const std::string& text, bool parse_special,
                        bool add_bos, const ServedModel& served,
                        Tokens* tokens) {
  return FromTokenizer(
      served.tokenizer->Encode(
          text, {.parse_special = parse_special, .add_bos = add_bos}),
      "text", tokens);
}

grpc::Status EncodeMessages(const v1::ChatInput& chat, bool parse_special,
                            const ServedModel& served, Tokens* tokens) {
  std::vector<ChatMessage> messages;
  messages.reserve(chat.messages_size());
  for (const v1::ChatMessage& message : chat.messages())
    messages.push_back({message.role(), message.content()});
  return FromTokenizer(
      EncodeChat(*served.tokenizer, served.chat_style, messages,
                 /*add_generation_prompt=*/true, chat.assistant_prefix(),
                 parse_special),
      "chat.messages", tokens);
}

grpc::Status EncodePrompt(const v1::GenerateRequest& request,
                          const ServedModel& served, Tokens* tokens) {
  // BOS is the default where the vocabulary asks for one.
  const bool add_bos = !request.has_add_bos() || request.add_bos();
  grpc::Status status;
  switch (request.input_case()) {
    case v1::GenerateRequest::kText:
      status = EncodeText(request.text(), request.parse_special(), add_bos,
                          served, tokens);
      break;
    case v1::GenerateRequest::kChat:
      status = EncodeMessages(request.chat(), request.parse_special(), served,
                              tokens);
      break;
    default:
      tokens->assign(request.token_ids().ids().begin(),
                     request.token_ids().ids().end());
  }
  if (status.ok() && tokens->empty())
    return Invalid(InputField(request), "makes no token");
  return status;
}

SamplingParams ToSampling(const v1::SamplingParams& wire) {
  SamplingParams params;
  if (wire.has_temperature()) params.temperature = wire.temperature();
  if (wire.has_top_k()) params.top_k = wire.top_k();
  if (wire.has_top_p()) params.top_p = wire.top_p();
  if (wire.has_min_p()) params.min_p = wire.min_p();
  if (wire.has_repetition_penalty())
    params.repetition_penalty = wire.repetition_penalty();
  params.frequency_penalty = wire.frequency_penalty();
  params.presence_penalty = wire.presence_penalty();
  params.logit_bias.assign(wire.logit_bias().begin(), wire.logit_bias().end());
  // The map's order is the hash's: sorted, so that equal requests are equal.
  std::sort(params.logit_bias.begin(), params.logit_bias.end());
  if (wire.has_seed()) params.seed = wire.seed();
  return params;
}

StopParams ToStop(const v1::StopParams& wire, int64_t max_request_tokens) {
  StopParams params;
  // No answer is longer than the longest request: clamped, so that no sum
  // further down comes near the end of int32.
  const auto clamp = [&](int32_t tokens) {
    return static_cast<int32_t>(std::min<int64_t>(tokens, max_request_tokens));
  };
  params.max_tokens = clamp(wire.max_tokens());
  params.min_tokens = clamp(wire.min_tokens());
  params.stop_strings.assign(wire.stop_strings().begin(),
                             wire.stop_strings().end());
  params.stop_token_ids.assign(wire.stop_token_ids().begin(),
                               wire.stop_token_ids().end());
  params.ignore_eos = wire.ignore_eos();
  params.include_stop_string = wire.include_stop_string();
  return params;
}

OutputParams ToOutput(const v1::OutputParams& wire) {
  OutputParams params;
  if (wire.has_logprobs()) params.num_logprobs = wire.logprobs();
  params.prompt_logprobs = wire.prompt_logprobs();
  params.echo = wire.echo();
  params.render_special = wire.render_special();
  return params;
}

// The policy itself says what it thinks of its options.
grpc::Status ToKv(const v1::GenerateRequest& request, const ServedModel& served,
                  KvOptions* options) {
  const v1::KvParams& wire = request.kv();
  options->policy =
      wire.has_policy() ? wire.policy() : served.default_kv_policy;
  options->token_budget = wire.token_budget();
  if (options->policy == kSentencePolicy) {
    if (!wire.has_token_budget())
      options->token_budget = served.sentence_token_budget;
    options->dense_tokens = served.sentence_dense_tokens;
    options->index_kind = served.sentence_index_kind;
  }
  options->semantic_factor = wire.semantic_factor();
  options->bypass_prefix_cache = wire.bypass_prefix_cache();
  options->cache_salt = wire.cache_salt();
  if (wire.has_index_kind()) {
    const absl::StatusOr<SentenceIndexKind> kind =
        ParseSentenceIndexKind(wire.index_kind());
    if (!kind.ok())
      return Invalid("kv.index_kind", std::string(kind.status().message()));
    options->index_kind = *kind;
  }
  if (wire.has_prior()) options->prior = wire.prior();
  if (wire.has_strict()) options->strict = wire.strict();
  if (wire.has_head_budgets()) options->head_budgets = wire.head_budgets();
  if (wire.has_prior_half_life())
    options->prior_half_life = wire.prior_half_life();
  if (wire.has_query_blend()) options->query_blend = wire.query_blend();
  if (wire.has_sink_tokens()) options->sink_tokens = wire.sink_tokens();
  if (wire.has_recent_tokens()) options->recent_tokens = wire.recent_tokens();
  if (wire.has_dense_tokens()) options->dense_tokens = wire.dense_tokens();
  if (wire.has_reuse_bonus()) options->reuse_bonus = wire.reuse_bonus();
  options->forced_tokens = wire.forced_tokens();
  options->trace_sources = request.output().sentence_trace();
  const absl::Status status = ValidateKvOptions(*options);
  if (!status.ok()) return Invalid("kv", std::string(status.message()));
  return grpc::Status::OK;
}

void AppendLogprob(int32_t id, float logprob, const Tokenizer& tokenizer,
                   v1::Logprob* wire) {
  wire->set_token_id(id);
  wire->set_logprob(logprob);
  wire->set_token(tokenizer.TokenBytes(id, /*render_special=*/true));
}

v1::FinishReason ToWire(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kDeadline:
      return v1::FINISH_REASON_DEADLINE;
    case FinishReason::kError:
      return v1::FINISH_REASON_ERROR;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void ToWire(SentenceReads&& reads, v1::SentenceReads* wire) {
  wire->set_begin(reads.begin);
  wire->set_end(reads.end);
  wire->set_text(std::move(reads.text));
  wire->set_whole_context(reads.num_selections == 0);
  wire->set_selections(reads.num_selections);
  for (SourceReads& source : reads.sources) {
    v1::SourceSentence* to = wire->add_sources();
    to->set_begin(source.begin);
    to->set_end(source.end);
    to->set_text(std::move(source.text));
    to->set_generated(source.generated);
    to->set_share(source.share);
    to->set_times_chosen(source.times_chosen);
  }
}

void ToWire(const Finish& finish, v1::Finish* wire) {
  wire->set_reason(ToWire(finish.reason));
  if (finish.stop_token_id.has_value())
    wire->set_stop_token_id(*finish.stop_token_id);
  if (finish.stop_string.has_value())
    wire->set_stop_string(*finish.stop_string);
  const Usage& from = finish.usage;
  v1::Usage* usage = wire->mutable_usage();
  usage->set_prompt_tokens(from.prompt_tokens);
  usage->set_cached_tokens(from.cached_tokens);
  usage->set_generated_tokens(from.generated_tokens);
  usage->set_preemptions(from.preemptions);
  usage->set_sentences_indexed(from.sentences_indexed);
  usage->set_tokens_attended_per_step(from.tokens_attended_per_step);
  usage->set_selection_overlap(from.selection_overlap);
  usage->set_bytes_streamed(from.bytes_streamed);
  usage->set_queue_seconds(absl::ToDoubleSeconds(from.queue_time));
  usage->set_prefill_seconds(absl::ToDoubleSeconds(from.prefill_time));
  usage->set_total_seconds(absl::ToDoubleSeconds(from.total_time));
}

}  // namespace

grpc::Status CheckModel(bool has_model, std::string_view model,
                        const ServedModel& served) {
  if (!has_model || model == served.name) return grpc::Status::OK;
  return UnknownModel(served.name);
}

grpc::Status Translate(const v1::GenerateRequest& request,
                       const ServedModel& served, GenerateRequest* translated) {
  grpc::Status status =
      CheckModel(request.has_model(), request.model(), served);
  if (!status.ok()) return status;
  const ServedLimits limits = served.limits();
  const std::vector<FieldViolation> violations = Validate(request, limits);
  if (!violations.empty()) return InvalidRequest(violations);
  status = ToKv(request, served, &translated->kv);
  if (!status.ok()) return status;
  translated->request_id = request.request_id();
  translated->sampling = ToSampling(request.sampling());
  translated->stop = ToStop(request.stop(), limits.max_request_tokens);
  translated->output = ToOutput(request.output());
  return EncodePrompt(request, served, &translated->prompt);
}

grpc::Status Translate(const v1::TokenizeRequest& request,
                       const ServedModel& served,
                       std::vector<int32_t>* tokens) {
  const grpc::Status status =
      CheckModel(request.has_model(), request.model(), served);
  if (!status.ok()) return status;
  const std::vector<FieldViolation> violations =
      Validate(request, served.limits());
  if (!violations.empty()) return InvalidRequest(violations);
  if (request.has_chat())
    return EncodeMessages(request.chat(), request.parse_special(), served,
                          tokens);
  const bool add_bos = !request.has_add_bos() || request.add_bos();
  return EncodeText(request.text(), request.parse_special(), add_bos, served,
                    tokens);
}

std::string_view InputField(const v1::GenerateRequest& request) {
  switch (request.input_case()) {
    case v1::GenerateRequest::kText:
      return "text";
    case v1::GenerateRequest::kTokenIds:
      return "token_ids.ids";
    case v1::GenerateRequest::kChat:
      return "chat.messages";
    default:
      return "input";
  }
}

void AppendEvent(StreamEvent&& event, const Tokenizer& tokenizer,
                 v1::GenerateResponse* response) {
  response->mutable_text()->append(event.text);
  for (const TokenLogprob& logprob : event.prompt_logprobs)
    AppendLogprob(logprob.token_id, logprob.logprob, tokenizer,
                  response->add_prompt_logprobs());
  for (const GeneratedToken& token : event.tokens) {
    response->add_token_ids(token.id);
    if (!token.logprob.has_value()) continue;
    v1::TokenLogprobs* logprobs = response->add_logprobs();
    AppendLogprob(token.id, *token.logprob, tokenizer,
                  logprobs->mutable_chosen());
    for (const TokenLogprob& top : token.top_logprobs)
      AppendLogprob(top.token_id, top.logprob, tokenizer, logprobs->add_top());
  }
  for (SentenceReads& reads : event.reads)
    ToWire(std::move(reads), response->add_reads());
  if (event.finish.has_value())
    ToWire(*event.finish, response->mutable_finish());
}

}  // namespace sentencekv
