// From the wire's messages to the engine's types and back. The only place that
// knows both.
//
// Runs on RPC threads; tokenising a prompt is the expensive part. Every error
// is the status to answer with.
#pragma once

#include <grpcpp/support/status.h>

#include <string_view>
#include <vector>

#include "engine/request.h"
#include "sentencekv/v1/sentencekv.pb.h"
#include "server/served_model.h"

namespace sentencekv {

// OK when the request is for this server: unset, or the model it serves.
grpc::Status CheckModel(bool has_model, std::string_view model,
                        const ServedModel& served);

// Validates, tokenises and translates. Fills everything but request_id (left
// as the field says, possibly "") and deadline.
grpc::Status Translate(const v1::GenerateRequest& request,
                       const ServedModel& served, GenerateRequest* translated);

// The tokens that Generate would see.
grpc::Status Translate(const v1::TokenizeRequest& request,
                       const ServedModel& served, std::vector<int32_t>* tokens);

// The field that the request's prompt came in, for error details.
std::string_view InputField(const v1::GenerateRequest& request);

// Adds an event to a message: increments are appended, so that several events
// become one message when the writer lags.
void AppendEvent(StreamEvent&& event, const Tokenizer& tokenizer,
                 v1::GenerateResponse* response);

}  // namespace sentencekv
