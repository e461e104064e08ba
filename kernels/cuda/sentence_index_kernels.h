// Entries of sentences from their keys. Their vectors lie as
// kernels/cuda/entry_block.h says.
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
  // Only those of the sentences are read: a task may bring just these, with
  // the page_begin that the page of position 0 would have; it may be negative.
  const int32_t* pages = nullptr;
};

// cudaErrorInvalidValue where D is no multiple of 8 in 8..256.
cudaError_t LaunchIndexSentences(const IndexSentencesLaunch& launch,
                                 cudaStream_t stream);

}  // namespace sentencekv
