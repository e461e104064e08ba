// Runs a Model for tests: sequences with their pages, greedy choice.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cache/kv_memory.h"
#include "cache/kv_policy.h"
#include "cache/page_pool.h"
#include "engine/model.h"
#include "engine/model_loader.h"
#include "kernels/backend.h"
#include "tests/support/fault_backend.h"

namespace sentencekv {

struct ModelRunnerOptions {
  bool random_weights = false;  // the path is that of a config.json
  int64_t num_pages = 64;
  DType kv_dtype = DType::kF32;
  int num_threads = 1;
  std::string cpu_level;  // "" is the highest
  ModelLoadOptions load;
  int64_t context_length = 0;  // 0: the model's own
  // Instead of a CPU backend of those threads and level; may be null.
  std::function<std::unique_ptr<Backend>()> make_backend;
  // Frames of a device with memory of its own, whose copies run as late as
  // events allow; 0: K and V are used in place.
  int64_t num_frames = 0;
  // With frames, on a device that could choose.
  bool host_chooses = false;
  // With frames: waits that are left out, see FaultBackend::ForgetWaits.
  std::optional<std::pair<DeviceStream, DeviceStream>> forgotten_waits;
  // Calls of the backend can be made to fail: ModelRunner::faults().
  bool can_fail = false;
  // Sees every SelectedAttention; may be null.
  std::function<void(const SelectedAttentionParams&)> on_selections;
};

// A model with its backend, pool and policy `full`. Every failure aborts with
// its message.
class ModelRunner {
 public:
  // Loads the network of `path`; its tokenizer is left alone.
  explicit ModelRunner(const std::string& path,
                       const ModelRunnerOptions& options = {});
  ~ModelRunner();

  // A new sequence under `full`; its index.
  size_t Add();
  // One under another policy, which must outlive the runner.
  size_t Add(KvPolicy& policy, const KvOptions& kv_options, int64_t num_prompt);
  CachedSequence& sequence(size_t index) { return *sequences_[index]; }
  // Gives up its pages; it is not used again.
  void End(size_t index);

  struct Feed {
    size_t sequence = 0;
    std::span<const int32_t> tokens;
    int64_t num_logits = 1;
  };
  // One step. Rows of logits as Model::Forward orders them; copied.
  std::vector<std::vector<float>> Step(std::span<const Feed> feeds);
  // One step of one sequence; the logits of its last tokens.
  std::vector<std::vector<float>> Step(size_t sequence,
                                       std::span<const int32_t> tokens,
                                       int64_t num_logits = 1);
  // Feeds tokens in steps of at most `chunk`; the logits after each token.
  std::vector<std::vector<float>> RunAll(size_t sequence,
                                         std::span<const int32_t> tokens,
                                         int64_t chunk);

  Model& model() { return *model_; }
  PagePool& pool() { return *pool_; }
  KvMemory& memory() { return *memory_; }
  Backend& backend() { return *backend_; }
  // REQUIRES: can_fail.
  FaultBackend& faults() { return *faults_; }

 private:
  std::unique_ptr<Backend> backend_;
  FaultBackend* faults_ = nullptr;  // the same one; null where it has no faults
  std::unique_ptr<Model> model_;
  std::unique_ptr<PagePool> pool_;
  std::unique_ptr<KvMemory> memory_;
  std::unique_ptr<KvPolicy> policy_;
  std::vector<std::unique_ptr<CachedSequence>> sequences_;
  std::vector<KvPolicy*> policies_;  // of the sequences
};

// The index of the highest value, the lowest one on ties.
int32_t Greedy(std::span<const float> logits);

}  // namespace sentencekv
