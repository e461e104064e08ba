// Entries of sentences from their keys, as kernels/sentence_block.h describes
// them; but vectors lie as [D / 8][16 entries][8] int8, so that 16 neighbouring
// lanes, each with an entry, read 128 neighbouring bytes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/paged_kv.h"
#include "kernels/sentence_block.h"

namespace sentencekv {

// SentenceIndexItem in device memory.
struct IndexSentenceTask {
  SentenceIndexKind kind = SentenceIndexKind::kMean;
  int64_t page_begin = 0;  // page of position 0, in `pages`
  int64_t begin = 0;       // positions begin..end-1
  int64_t end = 0;
  int64_t entry = 0;
  std::byte* blocks = nullptr;  // of KV head 0
  int64_t head_stride = 0;
  std::byte* signs = nullptr;  // of KV head 0; a multiple of 4
  int64_t sign_stride = 0;     // a multiple of 4
};

struct IndexSentencesLaunch {
  PagedKv kv;
  const IndexSentenceTask* tasks = nullptr;
  int64_t num_tasks = 0;
  // Only pages of sentences are read: a task may bring just those, with
  // page_begin what the page of position 0 would have; it may be negative.
  const int32_t* pages = nullptr;
};

// cudaErrorInvalidValue where D is no multiple of 8 or above 4,096.
cudaError_t LaunchIndexSentences(const IndexSentencesLaunch& launch,
                                 cudaStream_t stream);

}  // namespace sentencekv
