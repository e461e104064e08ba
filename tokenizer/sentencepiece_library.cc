#include "tokenizer/sentencepiece_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>

#include "tokenizer/sentencepiece_module.h"

#ifdef __SANITIZE_ADDRESS__
// The module binds operator new and delete differently from the sanitizer,
// each consistently; only their names do not match.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "alloc_dealloc_mismatch=0";
}
#endif

namespace sentencekv {
namespace {

namespace fs = std::filesystem;

// Beside the program (build folder), or where it is installed.
fs::path ModulePath() {
  std::error_code error;
  const fs::path folder =
      fs::read_symlink("/proc/self/exe", error).parent_path();
  const fs::path beside = folder / kSentencePieceModuleFile;
  if (fs::exists(beside, error)) return beside;
  return folder.parent_path() / "lib" / "sentencekv" / kSentencePieceModuleFile;
}

struct LoadedModule {
  const SentencePieceModule* module = nullptr;
  std::string error;  // when there is none
};

LoadedModule OpenModule() {
  // DEEPBIND: the library's own symbols come before the process's. As dlmopen
  // of the base namespace because sanitizers refuse dlopen with that flag.
  void* handle = dlmopen(LM_ID_BASE, ModulePath().c_str(),
                         RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  void* symbol =
      handle == nullptr ? nullptr : dlsym(handle, kSentencePieceModuleSymbol);
  if (symbol == nullptr) return {.error = dlerror()};
  return {.module = static_cast<const SentencePieceModule*>(symbol)};
}

const LoadedModule& Module() {
  static const LoadedModule module = OpenModule();
  return module;
}

// What a call of the module gives back.
struct Result {
  std::vector<int32_t>* ids = nullptr;
  std::string* error = nullptr;
};

void TakeError(void* context, const char* text, size_t size) {
  static_cast<Result*>(context)->error->assign(text, size);
}

void TakeIds(void* context, const int32_t* ids, size_t count) {
  std::vector<int32_t>& taken = *static_cast<Result*>(context)->ids;
  taken.insert(taken.end(), ids, ids + count);
}

}  // namespace

std::unique_ptr<SentencePieceLibrary> SentencePieceLibrary::Load(
    std::string_view model_proto, std::string* error) {
  const LoadedModule& loaded = Module();
  if (loaded.module == nullptr) {
    *error = loaded.error;
    return nullptr;
  }
  Result result = {.error = error};
  void* processor = loaded.module->load(model_proto.data(), model_proto.size(),
                                        TakeError, &result);
  if (processor == nullptr) return nullptr;
  return std::unique_ptr<SentencePieceLibrary>(
      new SentencePieceLibrary(*loaded.module, processor));
}

SentencePieceLibrary::~SentencePieceLibrary() { module_.unload(processor_); }

bool SentencePieceLibrary::Encode(std::string_view text,
                                  std::vector<int32_t>* ids,
                                  std::string* error) const {
  Result result = {.ids = ids, .error = error};
  return module_.encode(processor_, text.data(), text.size(), TakeIds,
                        TakeError, &result);
}

}  // namespace sentencekv
