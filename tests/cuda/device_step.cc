#include "tests/cuda/device_step.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/half.h"

namespace sentencekv {
namespace {

constexpr float kUntouched = 7.0f;

AttentionParams ParamsOf(const PagedStep& step) {
  std::vector<float> out;
  AttentionParams params = step.Params(out);
  params.out = nullptr;
  return params;
}

std::vector<float> Activations(const PagedStep& step) {
  const float* qkv = ParamsOf(step).qkv;
  return {qkv, qkv + step.num_rows() * step.row_width()};
}

}  // namespace

std::vector<std::byte> TurnedPool(const KvLayerView& view) {
  const KvLayout& layout = view.layout;
  const int64_t element = SizeOf(layout.dtype);
  const int64_t runs = layout.num_pages * layout.num_kv_heads;
  std::vector<std::byte> pool(view.base,
                              view.base + runs * layout.head_bytes());
  for (int64_t run = 0; run < runs; ++run) {
    for (int64_t t = 0; t < kPageTokens; ++t) {
      for (int64_t d = 0; d < layout.head_dim; ++d) {
        const int64_t offset = run * layout.head_bytes();
        std::memcpy(pool.data() + offset + (t * layout.head_dim + d) * element,
                    view.base + offset + (d * kPageTokens + t) * element,
                    static_cast<size_t>(element));
      }
    }
  }
  return pool;
}

std::vector<float> RoundedActivations(const PagedStep& step) {
  const AttentionShape& shape = step.shape();
  std::vector<float> activations = Activations(step);
  if (!AttendsOnTensorCores(shape.dtype, shape.head_dim)) return activations;
  const float scale = step.scale() * 1.4426950408889634f;
  for (float& q : activations) {
    const float scaled = q * scale;
    const float rounded = shape.dtype == DType::kF16
                              ? F16ToF32(F32ToF16(scaled))
                              : Bf16ToF32(F32ToBf16(scaled));
    q = rounded / scale;
  }
  return activations;
}

void ExpectAttention(const PagedStep& step, const std::vector<float>& out,
                     const std::vector<float>& expected, double tolerance) {
  const AttentionShape& shape = step.shape();
  double rounding = 0;
  if (AttendsOnTensorCores(shape.dtype, shape.head_dim)) {
    rounding = shape.dtype == DType::kF16 ? 0x1p-11 : 0x1p-8;
  }
  ASSERT_EQ(out.size(), expected.size());
  for (size_t i = 0; i < out.size(); ++i) {
    const double bound = tolerance * step.max_value() +
                         rounding * (step.max_value() + std::fabs(expected[i]));
    // Written so that NaN fails.
    ASSERT_TRUE(std::fabs(out[i] - expected[i]) <= bound)
        << "element " << i << ": " << out[i] << " for " << expected[i];
  }
}

DeviceStep::DeviceStep(cuda_sim::SimDevice& device, const PagedStep& step)
    : device_(device),
      step_(step),
      params_(ParamsOf(step)),
      qkv_(device.Upload(Activations(step))),
      view_(step.view()) {
  view_.base = device.Upload(TurnedPool(step.view()));
}

std::vector<float> DeviceStep::Attend(const AttentionDevice& how) const {
  AttentionPlan plan;
  PlanAttention(params_, how, &plan);
  return Run(kv(), plan, how);
}

std::vector<float> DeviceStep::AttendInPieces(
    int64_t num_rows, const AttentionDevice& how) const {
  std::vector<KvSequence> pieces;
  for (const KvSequence& sequence : step_.sequences()) {
    for (int64_t row = 0; row < sequence.num_rows; row += num_rows) {
      pieces.push_back({.row_begin = sequence.row_begin + row,
                        .num_rows = std::min(num_rows, sequence.num_rows - row),
                        .position = sequence.position + row,
                        .pages = sequence.pages});
    }
  }
  AttentionParams params = params_;
  params.sequences = pieces.data();
  params.num_sequences = std::ssize(pieces);
  AttentionPlan plan;
  PlanAttention(params, how, &plan);
  return Run(kv(), plan, how);
}

std::vector<float> DeviceStep::Attend(
    const std::vector<SelectedTokens>& selections,
    const AttentionDevice& how) const {
  return Run(kv(), PlanOf(selections, how), how);
}

std::vector<float> DeviceStep::AttendPerHead(
    const std::vector<SelectedTokens>& selections,
    const AttentionDevice& how) const {
  KvLayerView view = view_;
  view.is_per_head = true;
  return Run(MakePagedKv(view), PlanOf(selections, how), how);
}

AttentionPlan DeviceStep::PlanOf(const std::vector<SelectedTokens>& selections,
                                 const AttentionDevice& how) const {
  SelectedAttentionParams params;
  params.kv = params_.kv;
  params.selections = selections.data();
  params.num_selections = std::ssize(selections);
  params.num_heads = params_.num_heads;
  AttentionPlan plan;
  PlanAttention(params, how, &plan);
  return plan;
}

std::vector<float> DeviceStep::Run(const PagedKv& kv, const AttentionPlan& plan,
                                   const AttentionDevice& how) const {
  const auto size = static_cast<size_t>(step_.num_rows() * step_.out_width());
  AttentionLaunch launch;
  launch.qkv = qkv_;
  launch.out = device_.Upload(std::vector<float>(size, kUntouched));
  launch.kv = kv;
  launch.num_heads = params_.num_heads;
  launch.scale = params_.scale;
  launch.pages = device_.Upload(plan.pages);
  launch.masks = plan.masks.empty() ? nullptr : device_.Upload(plan.masks);
  launch.num_kv_heads = plan.num_kv_heads;
  launch.states = device_.Device<float>(
      static_cast<size_t>(std::max<int64_t>(how.state_floats, 1)));
  for (const AttentionTileSize tile_size :
       {AttentionTileSize::kFew, AttentionTileSize::kMany}) {
    const AttentionTiles& tiles =
        tile_size == AttentionTileSize::kFew ? plan.few : plan.many;
    launch.size = tile_size;
    launch.tiles = device_.Upload(tiles.tiles);
    launch.num_tiles = std::ssize(tiles.tiles);
    launch.num_parts = tiles.num_parts;
    launch.has_cut_tiles = tiles.has_cut_tiles;
    EXPECT_EQ(LaunchAttention(launch, device_.stream()), cudaSuccess);
  }
  return device_.Download(launch.out, size);
}

}  // namespace sentencekv
