#include "tokenizer/sentencepiece_library.h"

#include <sentencepiece_processor.h>

#include <exception>
#include <functional>

namespace sentencekv {
namespace {

// Calls the library; its status and its exceptions become one answer.
bool Call(const std::function<sentencepiece::util::Status()>& function,
          std::string* error) {
  try {
    sentencepiece::util::Status status = function();
    if (status.ok()) return true;
    *error = status.ToString();
  } catch (const std::exception& exception) {
    *error = exception.what();
  } catch (...) {
    *error = "unknown exception";
  }
  return false;
}

}  // namespace

SentencePieceLibrary::SentencePieceLibrary()
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {}
SentencePieceLibrary::~SentencePieceLibrary() = default;

std::unique_ptr<SentencePieceLibrary> SentencePieceLibrary::Load(
    std::string_view model_proto, std::string* error) {
  std::unique_ptr<SentencePieceLibrary> made(new SentencePieceLibrary);
  bool is_loaded = Call(
      [&] { return made->processor_->LoadFromSerializedProto(model_proto); },
      error);
  return is_loaded ? std::move(made) : nullptr;
}

bool SentencePieceLibrary::Encode(std::string_view text,
                                  std::vector<int32_t>* ids,
                                  std::string* error) const {
  std::vector<int> encoded;
  if (!Call([&] { return processor_->Encode(text, &encoded); }, error)) {
    return false;
  }
  ids->insert(ids->end(), encoded.begin(), encoded.end());
  return true;
}

}  // namespace sentencekv
