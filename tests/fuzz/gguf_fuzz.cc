// Any bytes as a GGUF file: parsed, described, and, when it holds a whole
// model, packed and run for a step.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/kv_policy.h"
#include "cache/page_pool.h"
#include "engine/checkpoint.h"
#include "engine/gguf.h"
#include "engine/gguf_fields.h"
#include "engine/gguf_vocabulary.h"
#include "engine/llama_loader.h"
#include "kernels/check.h"
#include "kernels/cpu/cpu_backend.h"

namespace sentencekv {
namespace {

// One for all inputs: starting threads would be most of the work.
Backend& SharedBackend() {
  static const std::unique_ptr<Backend> backend = [] {
    auto made =
        MakeCpuBackend({.num_threads = 1, .level = CpuLevel::kPortable});
    SKV_CHECK(made.ok());
    return *std::move(made);
  }();
  return *backend;
}

void ReadEveryValue(const GgufFile& file) {
  const GgufFields fields(file, "");
  for (const auto& [key, value] : file.metadata()) {
    FieldText(fields.Get(key));
    const auto* array = std::get_if<GgufArray>(&value);
    if (array == nullptr) continue;
    (void)array->Strings();
    (void)array->Integers();
    (void)array->Floats();
  }
}

void RunOneStep(Model& model) {
  const ModelInfo& info = model.info();
  auto pool =
      PagePool::Create(SharedBackend(), {.num_layers = info.num_layers,
                                         .num_pages = 1,
                                         .num_kv_heads = info.num_kv_heads,
                                         .head_dim = info.head_dim,
                                         .dtype = DType::kF32});
  if (!pool.ok()) return;
  const auto memory = MakeInPlaceKvMemory(**pool);
  CachedSequence sequence;
  SKV_CHECK((*pool)->Take(1, &sequence.pages).ok());
  const std::vector<int32_t> tokens = {
      0, static_cast<int32_t>(info.vocab_size - 1)};
  const auto policy = MakeFullPolicy();
  const ForwardSequence entry{&sequence, policy.get(), tokens, 1};
  std::span<const float> logits;
  const absl::Status status =
      model.Forward(std::span(&entry, 1), *memory, &logits);
  // A context of one token is the only reason to refuse.
  SKV_CHECK(status.ok() || info.context_length < 2);
}

}  // namespace
}  // namespace sentencekv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sentencekv;
  const auto file = GgufFile::Parse(std::as_bytes(std::span(data, size)));
  if (!file.ok()) return 0;
  ReadEveryValue(*file);
  (void)VocabularyFromGguf(*file, 1000);
  Checkpoint checkpoint;
  checkpoint.gguf = *file;
  checkpoint.tensors = file->tensors();
  const auto config = checkpoint.Config();
  if (!config.ok()) return 0;
  ModelLoadOptions options;
  options.max_tokens_per_step = 2;
  options.max_logits_per_step = 1;
  const auto model = LoadLlama(checkpoint, *config, SharedBackend(), options);
  if (model.ok()) RunOneStep(**model);
  return 0;
}
