// The C interface of the module that holds the SentencePiece library.
//
// Debian's libsentencepiece exports a Protocol Buffers runtime of its own
// (3.14), under the names of the one that gRPC programs use (3.21): a process
// that links both dies at its start, whichever comes first. The library is
// therefore linked to a module alone, which sentencepiece_library.cc loads
// into a scope of its own. No memory that one side allocated is freed by the
// other, and no exception crosses.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sentencekv {

// Receives bytes or ids during a call; `context` is the caller's.
using ErrorSink = void (*)(void* context, const char* text, size_t size);
using IdSink = void (*)(void* context, const int32_t* ids, size_t count);

struct SentencePieceModule {
  // From a serialised ModelProto. Null after a call of `on_error`.
  void* (*load)(const char* model_proto, size_t size, ErrorSink on_error,
                void* context);
  void (*unload)(void* processor);
  // Gives the ids to `on_ids` at once. False after a call of `on_error`.
  bool (*encode)(const void* processor, const char* text, size_t size,
                 IdSink on_ids, ErrorSink on_error, void* context);
};

inline constexpr char kSentencePieceModuleFile[] =
    "libsentencekv_sentencepiece.so";
// The one symbol: const SentencePieceModule*.
inline constexpr char kSentencePieceModuleSymbol[] =
    "sentencekv_sentencepiece_module";

}  // namespace sentencekv
