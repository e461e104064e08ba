#include "kernels/cuda/cuda_chooser.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <utility>

#include "kernels/check.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/choosing_tables.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/gather_kernels.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

// For the exponents of one launch; at least those of one row. 128K tokens, 32
// query heads and 8 KV heads take 5 MiB a row.
constexpr int64_t kMostScoreBytes = int64_t{64} << 20;

ChoosingTables& TablesOf(const ChoosingRowParams& row) {
  return static_cast<ChoosingTables&>(*row.sequence);
}

ScoringRow ScoringRowOf(const ChoosingRowParams& row) {
  return {.kind = row.kind,
          .query_row = row.row,
          .blocks = row.blocks,
          .block_stride = row.block_stride,
          .signs = row.signs,
          .sign_stride = row.sign_stride,
          .num_refined = row.num_refined,
          .prior = row.prior,
          .num_prior = row.num_prior,
          .prior_weight = row.prior_weight,
          .blend = row.blend,
          .query_sums = row.query_sums,
          .num_summed = row.num_summed};
}

// Whether the kernels take it; nothing is launched.
bool HasRoom(const ChoosingRoom& room) {
  return LaunchChoose({.num_rows = 0,
                       .num_kv_heads = room.pool.num_kv_heads,
                       .most_sentences = room.most_sentences,
                       .most_pages = room.most_pages,
                       .most_chosen = room.most_slots,
                       .most_slots = room.most_slots},
                      nullptr) == cudaSuccess &&
         room.pool.head_dim * SizeOf(room.pool.dtype) % 16 == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SentenceChooser>> CudaChooser::Create(
    const ChooserParts& parts, const ChoosingRoom& wanted) {
  ChoosingRoom room = wanted;
  // A power of two: the rows of a graph are.
  room.most_rows = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(
      std::min(room.most_rows, kMostGatheredLists / room.pool.num_kv_heads))));
  if (!HasRoom(room)) return nullptr;
  std::unique_ptr<CudaChooser> chooser(new CudaChooser(parts, room));
  const auto num_rows = static_cast<size_t>(room.most_rows);
  const size_t count_bytes = num_rows *
                             static_cast<size_t>(room.pool.num_kv_heads) *
                             sizeof(ChoiceCounts);
  SKV_ASSIGN_OR_RETURN(
      chooser->rows_,
      DeviceMemory::Allocate(parts.arena, num_rows * sizeof(ChoosingRow),
                             MemoryUse::kWorkspace));
  SKV_ASSIGN_OR_RETURN(
      chooser->scoring_,
      DeviceMemory::Allocate(parts.arena, num_rows * sizeof(ScoringRow),
                             MemoryUse::kWorkspace));
  SKV_ASSIGN_OR_RETURN(
      chooser->counts_,
      DeviceMemory::Allocate(parts.arena, count_bytes, MemoryUse::kWorkspace));
  SKV_ASSIGN_OR_RETURN(chooser->host_counts_,
                       PinnedMemory::Allocate(parts.pinned, count_bytes));
  return chooser;
}

absl::StatusOr<std::unique_ptr<ChoosingSequence>> CudaChooser::NewSequence() {
  return ChoosingTables::Create(parts_.streams, parts_.ring, parts_.arena,
                                room());
}

absl::Status CudaChooser::BeginStep(std::span<const ChoosingRowParams> rows) {
  SKV_CHECK(!rows.empty() && std::ssize(rows) <= room().most_rows);
  num_rows_ = std::ssize(rows);
  choosing_rows_.clear();
  scoring_rows_.clear();
  row_numbers_.clear();
  for (const ChoosingRowParams& row : rows) {
    choosing_rows_.push_back(TablesOf(row).NextRow(row));
    scoring_rows_.push_back(ScoringRowOf(row));
    row_numbers_.push_back(row.row);
    const auto most = static_cast<uint64_t>(row.most_chosen);
    most_chosen_ = std::max(
        most_chosen_,
        std::min(static_cast<int64_t>(std::bit_ceil(most)), room().most_slots));
  }
  return absl::OkStatus();
}

absl::Status CudaChooser::SendRows() {
  StepGraphs& graphs = parts_.graphs;
  const auto num_rows = static_cast<size_t>(graphs.Rows(num_rows_));
  choosing_rows_.resize(num_rows);
  scoring_rows_.resize(num_rows);
  while (row_numbers_.size() < num_rows) {
    row_numbers_.push_back(std::ssize(row_numbers_));
  }
  SKV_ASSIGN_OR_RETURN(
      choosing_there_,
      graphs.SendForStep(std::span<const ChoosingRow>(choosing_rows_),
                         rows_.data()));
  SKV_ASSIGN_OR_RETURN(
      scoring_there_,
      graphs.SendForStep(std::span<const ScoringRow>(scoring_rows_),
                         scoring_.data()));
  tiles_there_.clear();
  return graphs.FillWithZeros(counts_.data(), CountBytes());
}

absl::Status CudaChooser::Attend(const ChoosingLayer& layer) {
  if (layer.layer == 0 && layer.first_row == 0) {
    SKV_RETURN_IF_ERROR(SendRows());
  }
  const int64_t num_rows = parts_.graphs.Rows(layer.num_rows);
  const int64_t most = RowsOfALaunch(layer);
  for (int64_t done = 0; done < num_rows; done += most) {
    ChoosingLayer some = layer;
    some.first_row += done;
    some.num_rows = std::min(most, num_rows - done);
    SKV_RETURN_IF_ERROR(AttendTogether(some));
  }
  return absl::OkStatus();
}

int64_t CudaChooser::RowsOfALaunch(const ChoosingLayer& layer) const {
  const int64_t row_bytes = (layer.num_heads + num_kv_heads()) *
                            room().most_sentences *
                            static_cast<int64_t>(sizeof(float));
  return std::max<int64_t>(kMostScoreBytes / row_bytes, 1);
}

absl::Status CudaChooser::AttendTogether(const ChoosingLayer& layer) {
  SKV_ASSIGN_OR_RETURN(ChooseLaunch choose, MakeLaunch(layer));
  SKV_ASSIGN_OR_RETURN(const LaunchTiles tiles, TilesOf(layer));
  choose.tiles = tiles.there;
  choose.tiles_per_choice =
      tiles.num_tiles / (choose.num_rows * num_kv_heads());
  StepGraphs& graphs = parts_.graphs;
  SKV_RETURN_IF_ERROR(
      graphs.Launch("LaunchScoreRows", LaunchScoreRows, choose));
  SKV_RETURN_IF_ERROR(graphs.Launch("LaunchChoose", LaunchChoose, choose));
  const absl::Status gathered = Gather(layer, choose);
  if (!gathered.ok()) {
    // Whoever gets the memory next does not wait for a gathering that was
    // launched and not waited for.
    graphs.AwaitSubmitted();
    return gathered;
  }
  return AttendToSlots(layer, choose, tiles);
}

absl::StatusOr<ChooseLaunch> CudaChooser::MakeLaunch(
    const ChoosingLayer& layer) {
  const int64_t choices = layer.num_rows * num_kv_heads();
  const int64_t pages = choices * most_chosen_;
  // One row more for each choice: a first look's scores.
  const int64_t exponents = layer.num_rows *
                            (layer.num_heads + num_kv_heads()) *
                            room().most_sentences;
  const auto size_bytes =
      static_cast<size_t>(pages) *
          (sizeof(MissingRun) + 2 * sizeof(int32_t) + 2 * sizeof(uint16_t)) +
      static_cast<size_t>(exponents) * sizeof(float) +
      static_cast<size_t>(2 * choices) * sizeof(int32_t);
  SKV_ASSIGN_OR_RETURN(std::byte * next, scratch_.AtLeast(size_bytes));
  // What has to be aligned most comes first.
  const auto take = [&next]<typename T>(T** part, int64_t count) {
    *part = reinterpret_cast<T*>(next);
    next += count * static_cast<int64_t>(sizeof(T));
  };
  ChooseLaunch choose;
  take(&choose.missing, pages);
  take(&choose.scoring.exponents, exponents);
  take(&choose.pages, pages);
  take(&choose.runs, pages);
  take(&choose.num_pages, choices);
  take(&choose.num_missing, choices);
  take(&choose.masks, pages);
  take(&choose.fetched, pages);
  choose.rows = choosing_there_ + layer.first_row;
  choose.num_rows = layer.num_rows;
  choose.num_kv_heads = num_kv_heads();
  choose.layer = layer.layer;
  choose.scoring.rows = scoring_there_ + layer.first_row;
  choose.scoring.qkv = layer.qkv;
  choose.scoring.num_heads = layer.num_heads / num_kv_heads();
  choose.scoring.head_dim = room().pool.head_dim;
  choose.scoring.scale = layer.scale;
  choose.scoring.num_processors = parts_.attention.device().num_processors;
  choose.most_sentences = room().most_sentences;
  choose.most_pages = room().most_pages;
  choose.most_chosen = most_chosen_;
  choose.most_slots = room().most_slots;
  choose.token_bytes = room().pool.head_bytes() / kPageTokens;
  choose.counts = reinterpret_cast<ChoiceCounts*>(counts_.data()) +
                  layer.first_row * num_kv_heads();
  return choose;
}

absl::StatusOr<CudaChooser::LaunchTiles> CudaChooser::TilesOf(
    const ChoosingLayer& layer) {
  const int64_t begin = layer.first_row;
  const int64_t end = begin + layer.num_rows;
  for (const LaunchTiles& tiles : tiles_there_) {
    if (tiles.first_row == begin && tiles.num_rows == layer.num_rows) {
      return tiles;
    }
  }
  PlanAttention(
      ListedChoices{.rows = std::span<const int64_t>(row_numbers_)
                                .subspan(static_cast<size_t>(begin),
                                         static_cast<size_t>(layer.num_rows)),
                    .layout = layer.frames.layout,
                    .num_heads = layer.num_heads,
                    .most_pages = most_chosen_},
      parts_.attention.device(), &plan_);
  const AttentionTiles& planned = plan_.tiles();
  const auto num_tiles = std::ssize(planned.tiles);
  const int64_t tiles_per_row = num_tiles / layer.num_rows;
  SKV_ASSIGN_OR_RETURN(
      QueryTile* const home,
      tiles_.AtLeast<QueryTile>(std::ssize(row_numbers_) * tiles_per_row));
  SKV_ASSIGN_OR_RETURN(
      QueryTile* const there,
      parts_.graphs.SendForStep(
          std::span<const QueryTile>(planned.tiles),
          reinterpret_cast<std::byte*>(home + begin * tiles_per_row)));
  // Layers may be cut into pieces otherwise: those that lay there are gone.
  std::erase_if(tiles_there_, [&](const LaunchTiles& other) {
    return other.first_row < end && begin < other.first_row + other.num_rows;
  });
  tiles_there_.push_back({.first_row = begin,
                          .num_rows = layer.num_rows,
                          .there = there,
                          .num_tiles = num_tiles,
                          .num_parts = planned.num_parts,
                          .size = plan_.size(),
                          .has_cut_tiles = planned.has_cut_tiles});
  return tiles_there_.back();
}

absl::Status CudaChooser::Gather(const ChoosingLayer& layer,
                                 const ChooseLaunch& choose) {
  StepGraphs& graphs = parts_.graphs;
  SKV_RETURN_IF_ERROR(
      graphs.Order(DeviceStream::kCompute, DeviceStream::kToDevice));
  SKV_RETURN_IF_ERROR(
      graphs.Launch("LaunchGatherRuns", LaunchGatherRuns,
                    {.missing = choose.missing,
                     .num_missing = choose.num_missing,
                     .num_lists = choose.num_rows * num_kv_heads(),
                     .most_missing = choose.most_chosen,
                     .pool = MakePagedKv(layer.pool),
                     .runs = layer.frames.base},
                    DeviceStream::kToDevice));
  return graphs.Order(DeviceStream::kToDevice, DeviceStream::kCompute);
}

absl::Status CudaChooser::AttendToSlots(const ChoosingLayer& layer,
                                        const ChooseLaunch& choose,
                                        const LaunchTiles& tiles) {
  return parts_.graphs.Launch("LaunchAttention", LaunchAttention,
                              {.qkv = layer.qkv,
                               .out = layer.out,
                               .kv = MakePagedKv(layer.frames),
                               .num_heads = layer.num_heads,
                               .scale = layer.scale,
                               .pages = choose.runs,
                               .masks = choose.masks,
                               .tiles = choose.tiles,
                               .num_tiles = tiles.num_tiles,
                               .num_parts = tiles.num_parts,
                               // Each choice is of one.
                               .num_kv_heads = 1,
                               .size = tiles.size,
                               .states = parts_.attention.states(),
                               .has_cut_tiles = tiles.has_cut_tiles});
}

absl::Status CudaChooser::EndStep() {
  return parts_.graphs.CopyToHost(host_counts_.data(), counts_.data(),
                                  CountBytes());
}

ChoosingCounts CudaChooser::counts(int64_t row) const {
  const auto* const of_choices =
      reinterpret_cast<const ChoiceCounts*>(host_counts_.data());
  ChoiceCounts sum;
  for (int64_t g = 0; g < num_kv_heads(); ++g) {
    sum += of_choices[row * num_kv_heads() + g];
  }
  return {.sentences = sum.sentences,
          .repeated = sum.repeated,
          .tokens = sum.tokens,
          .hits = sum.hits,
          .misses = sum.misses,
          .evictions = sum.evictions,
          .bytes = sum.bytes,
          .has_failed = sum.flags != 0};
}

}  // namespace sentencekv
