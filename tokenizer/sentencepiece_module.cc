#include "tokenizer/sentencepiece_module.h"

#include <sentencepiece_processor.h>

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sentencekv {
namespace {

using sentencepiece::SentencePieceProcessor;

// Calls the library; its status and its exceptions become one answer.
template <typename Function>
bool Call(Function&& function, ErrorSink on_error, void* context) {
  std::string error;
  try {
    const sentencepiece::util::Status status = function();
    if (status.ok()) return true;
    error = status.ToString();
  } catch (const std::exception& exception) {
    error = exception.what();
  } catch (...) {
    error = "unknown exception";
  }
  on_error(context, error.data(), error.size());
  return false;
}

void* Load(const char* model_proto, size_t size, ErrorSink on_error,
           void* context) {
  auto processor = std::make_unique<SentencePieceProcessor>();
  const bool is_loaded = Call(
      [&] {
        return processor->LoadFromSerializedProto(
            std::string_view(model_proto, size));
      },
      on_error, context);
  return is_loaded ? processor.release() : nullptr;
}

void Unload(void* processor) {
  delete static_cast<SentencePieceProcessor*>(processor);
}

bool Encode(const void* processor, const char* text, size_t size, IdSink on_ids,
            ErrorSink on_error, void* context) {
  std::vector<int> ids;
  const bool is_encoded = Call(
      [&] {
        return static_cast<const SentencePieceProcessor*>(processor)->Encode(
            std::string_view(text, size), &ids);
      },
      on_error, context);
  if (is_encoded) on_ids(context, ids.data(), ids.size());
  return is_encoded;
}

}  // namespace
}  // namespace sentencekv

extern "C" __attribute__((visibility("default")))
const sentencekv::SentencePieceModule sentencekv_sentencepiece_module = {
    .load = sentencekv::Load,
    .unload = sentencekv::Unload,
    .encode = sentencekv::Encode,
};
