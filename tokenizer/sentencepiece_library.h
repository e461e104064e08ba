// The SentencePiece library behind standard types: its header and Abseil's
// cannot be included together, and its exceptions end here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace sentencekv {

// Immutable after Load; Encode may be called from any thread.
class SentencePieceLibrary {
 public:
  // From a serialised ModelProto. Null, with the reason in `*error`, when the
  // library refuses it.
  static std::unique_ptr<SentencePieceLibrary> Load(
      std::string_view model_proto, std::string* error);
  ~SentencePieceLibrary();

  // Appends the ids of `text`. False, with the reason in `*error`, when the
  // library fails.
  bool Encode(std::string_view text, std::vector<int32_t>* ids,
              std::string* error) const;

 private:
  SentencePieceLibrary();
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

}  // namespace sentencekv
