// The SentencePiece library behind standard types. It lives in a module that
// is loaded with the first model that needs it; see sentencepiece_module.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sentencekv {

struct SentencePieceModule;

// Immutable after Load; Encode may be called from any thread.
class SentencePieceLibrary {
 public:
  // From a serialised ModelProto. Null, with the reason in `*error`, when the
  // library refuses it or the module is not there.
  static std::unique_ptr<SentencePieceLibrary> Load(
      std::string_view model_proto, std::string* error);
  ~SentencePieceLibrary();
  SentencePieceLibrary(const SentencePieceLibrary&) = delete;
  SentencePieceLibrary& operator=(const SentencePieceLibrary&) = delete;

  // Appends the ids of `text`. False, with the reason in `*error`, when the
  // library fails.
  bool Encode(std::string_view text, std::vector<int32_t>* ids,
              std::string* error) const;

 private:
  SentencePieceLibrary(const SentencePieceModule& module, void* processor)
      : module_(module), processor_(processor) {}

  const SentencePieceModule& module_;  // never unloaded
  void* const processor_;
};

}  // namespace sentencekv
