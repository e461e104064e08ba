#include "tests/support/fault_backend.h"

#include <utility>

#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {

int64_t FaultBackend::num_calls() const {
  std::lock_guard lock(mutex_);
  return num_calls_;
}

void FaultBackend::FailCall(int64_t n, absl::Status status,
                            std::string method) {
  SKV_CHECK(n >= 0 && !status.ok());
  std::lock_guard lock(mutex_);
  calls_left_ = n;
  failing_method_ = std::move(method);
  status_ = std::move(status);
  failed_method_.clear();
}

std::string FaultBackend::failed_method() const {
  std::lock_guard lock(mutex_);
  return failed_method_;
}

absl::Status FaultBackend::Count(const char* method) {
  std::lock_guard lock(mutex_);
  ++num_calls_;
  const bool counts = failing_method_.empty() || failing_method_ == method;
  if (calls_left_ == 0 || !counts || --calls_left_ > 0) return absl::OkStatus();
  failed_method_ = method;
  return status_;
}

absl::StatusOr<Buffer> FaultBackend::DoAllocate(size_t size_bytes,
                                                MemoryUse use) {
  SKV_RETURN_IF_ERROR(Count("Allocate"));
  return inner_->Allocate(size_bytes, use);
}

absl::Status FaultBackend::CopyToDevice(void* destination, const void* source,
                                        size_t size_bytes) {
  SKV_RETURN_IF_ERROR(Count("CopyToDevice"));
  return inner_->CopyToDevice(destination, source, size_bytes);
}

absl::Status FaultBackend::CopyToHost(void* destination, const void* source,
                                      size_t size_bytes) {
  SKV_RETURN_IF_ERROR(Count("CopyToHost"));
  return inner_->CopyToHost(destination, source, size_bytes);
}

absl::StatusOr<Buffer> FaultBackend::AllocateHost(size_t size_bytes) {
  SKV_RETURN_IF_ERROR(Count("AllocateHost"));
  return inner_->AllocateHost(size_bytes);
}

absl::Status FaultBackend::Transfer(DeviceStream stream,
                                    std::span<const CopyRun> runs) {
  SKV_RETURN_IF_ERROR(Count("Transfer"));
  return inner_->Transfer(stream, runs);
}

absl::StatusOr<DeviceEvent> FaultBackend::Record(DeviceStream stream) {
  SKV_RETURN_IF_ERROR(Count("Record"));
  return inner_->Record(stream);
}

absl::Status FaultBackend::Wait(DeviceStream stream, const DeviceEvent& event) {
  SKV_RETURN_IF_ERROR(Count("Wait"));
  if (forgotten_ == std::pair(stream, event.stream)) return absl::OkStatus();
  return inner_->Wait(stream, event);
}

absl::StatusOr<std::unique_ptr<SentenceChooser>>
FaultBackend::MakeSentenceChooser(const ChoosingRoom& room) {
  SKV_RETURN_IF_ERROR(Count("MakeSentenceChooser"));
  return inner_->MakeSentenceChooser(room);
}

void FaultBackend::Prepare(void* data, size_t size_bytes) {
  inner_->Prepare(data, size_bytes);
}

absl::Status FaultBackend::Synchronize() {
  SKV_RETURN_IF_ERROR(Count("Synchronize"));
  return inner_->Synchronize();
}

// The backend behind chooses the format again, from the same parts.
absl::StatusOr<WeightMatrix> FaultBackend::DoPackWeights(
    std::span<const MatrixSource> parts, WeightFormat /*format*/) {
  SKV_RETURN_IF_ERROR(Count("PackWeights"));
  return inner_->PackWeights(parts);
}

absl::Status FaultBackend::DoEmbed(const EmbedParams& params) {
  SKV_RETURN_IF_ERROR(Count("Embed"));
  return inner_->Embed(params);
}

absl::Status FaultBackend::DoRmsNorm(const RmsNormParams& params) {
  SKV_RETURN_IF_ERROR(Count("RmsNorm"));
  return inner_->RmsNorm(params);
}

absl::Status FaultBackend::DoMatMul(const MatMulParams& params) {
  SKV_RETURN_IF_ERROR(Count("MatMul"));
  return inner_->MatMul(params);
}

absl::Status FaultBackend::DoSwiGlu(const SwiGluParams& params) {
  SKV_RETURN_IF_ERROR(Count("SwiGlu"));
  return inner_->SwiGlu(params);
}

absl::Status FaultBackend::DoGatherRows(const GatherRowsParams& params) {
  SKV_RETURN_IF_ERROR(Count("GatherRows"));
  return inner_->GatherRows(params);
}

absl::Status FaultBackend::DoRopeTable(const RopeTableParams& params) {
  SKV_RETURN_IF_ERROR(Count("RopeTable"));
  return inner_->RopeTable(params);
}

absl::Status FaultBackend::DoRopeStoreKv(const RopeStoreKvParams& params) {
  SKV_RETURN_IF_ERROR(Count("RopeStoreKv"));
  return inner_->RopeStoreKv(params);
}

absl::Status FaultBackend::DoAttention(const AttentionParams& params) {
  SKV_RETURN_IF_ERROR(Count("Attention"));
  return inner_->Attention(params);
}

absl::Status FaultBackend::DoSelectedAttention(
    const SelectedAttentionParams& params) {
  SKV_RETURN_IF_ERROR(Count("SelectedAttention"));
  if (observer_) observer_(params);
  return inner_->SelectedAttention(params);
}

absl::Status FaultBackend::DoIndexSentences(
    const IndexSentencesParams& params) {
  SKV_RETURN_IF_ERROR(Count("IndexSentences"));
  return inner_->IndexSentences(params);
}

absl::Status FaultBackend::DoScoreSentences(
    const ScoreSentencesParams& params) {
  SKV_RETURN_IF_ERROR(Count("ScoreSentences"));
  return inner_->ScoreSentences(params);
}

absl::Status FaultBackend::DoAttentionMass(const AttentionMassParams& params) {
  SKV_RETURN_IF_ERROR(Count("AttentionMass"));
  return inner_->AttentionMass(params);
}

absl::Status FaultBackend::DoReadKeys(const ReadKeysParams& params) {
  SKV_RETURN_IF_ERROR(Count("ReadKeys"));
  return inner_->ReadKeys(params);
}

absl::Status FaultBackend::DoCopyPages(const CopyPagesParams& params) {
  SKV_RETURN_IF_ERROR(Count("CopyPages"));
  return inner_->CopyPages(params);
}

absl::Status FaultBackend::DoCopyRows(const CopyRowsParams& params) {
  SKV_RETURN_IF_ERROR(Count("CopyRows"));
  return inner_->CopyRows(params);
}

absl::Status FaultBackend::RunStep(const StepSize& size,
                                   absl::FunctionRef<absl::Status()> issue) {
  SKV_RETURN_IF_ERROR(Count("RunStep"));
  return inner_->RunStep(size, issue);
}

}  // namespace sentencekv
