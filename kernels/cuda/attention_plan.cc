#include "kernels/cuda/attention_plan.h"

#include <algorithm>

#include "kernels/rounding.h"

namespace sentencekv {
namespace {

// Blocks of threads that keep one processor busy.
constexpr int64_t kBlocksPerProcessor = 2;

int64_t NumParts(const QueryTile& tile) {
  return CeilDiv(tile.num_tokens, kAttentionPartitionTokens);
}

// Queries that are computed together: the rows of a sequence, or one row, for
// the query heads of a KV head.
struct QueryRange {
  QueryTile first;  // but for its queries, tokens and parts
  int64_t num_queries = 0;
  int64_t group = 0;  // H / G
  bool has_choice = false;
};

// Fills a plan.
class Planner {
 public:
  Planner(const KvLayout& layout, const AttentionDevice& device,
          AttentionPlan* plan)
      : layout_(layout), device_(device), plan_(*plan) {
    for (AttentionTiles* tiles : {&plan_.few, &plan_.many}) {
      tiles->tiles.clear();
      tiles->num_parts = 0;
      tiles->has_cut_tiles = false;
    }
    plan_.pages.clear();
    plan_.masks.clear();
  }

  // Decoding rows, if the heads of a KV head fit, are kFew.
  void Add(const QueryRange& range) {
    const auto most_of = [this](AttentionTileSize size) {
      return TileQueries(size, layout_.dtype, layout_.head_dim);
    };
    const bool is_few = range.num_queries <= most_of(AttentionTileSize::kFew);
    const int64_t most =
        most_of(is_few ? AttentionTileSize::kFew : AttentionTileSize::kMany);
    AttentionTiles& to = is_few ? plan_.few : plan_.many;
    for (int64_t query = 0; query < range.num_queries; query += most) {
      QueryTile tile = range.first;
      const int64_t end = std::min(query + most, range.num_queries);
      tile.first_query = static_cast<int32_t>(query);
      tile.num_queries = static_cast<int32_t>(end - query);
      if (!range.has_choice) {
        tile.num_tokens = tile.position + (end - 1) / range.group + 1;
      }
      to.tiles.push_back(tile);
    }
  }

  // Cuts tiles and numbers parts. Decoding rows are cut always: their lengths
  // differ, and the longest would be waited for.
  void Finish() {
    Number(&plan_.few, true);
    const int64_t blocks =
        static_cast<int64_t>(plan_.many.tiles.size()) * plan_.num_kv_heads;
    Number(&plan_.many, blocks < kBlocksPerProcessor * device_.num_processors);
  }

 private:
  void Number(AttentionTiles* tiles, bool cuts) {
    for (QueryTile& tile : tiles->tiles) {
      tile.first_part = static_cast<int32_t>(tiles->num_parts);
      const int64_t parts = NumParts(tile);
      const int64_t states = parts * tile.num_queries * plan_.num_kv_heads;
      const bool fits =
          (num_states_ + states) * AttentionStateFloats(layout_.head_dim) <=
          device_.state_floats;
      if (!cuts || parts == 1 || !fits) {
        tile.first_state = -1;
        ++tiles->num_parts;
        continue;
      }
      tile.first_state = num_states_;
      num_states_ += states;
      tiles->num_parts += parts;
      tiles->has_cut_tiles = true;
    }
  }

  const KvLayout& layout_;
  const AttentionDevice& device_;
  AttentionPlan& plan_;
  int64_t num_states_ = 0;
};

}  // namespace

void PlanAttention(const AttentionParams& params, const AttentionDevice& device,
                   AttentionPlan* plan) {
  const KvLayout& layout = params.kv.layout;
  Planner planner(layout, device, plan);
  plan->num_kv_heads = layout.num_kv_heads;
  const int64_t group = params.num_heads / layout.num_kv_heads;
  for (int64_t i = 0; i < params.num_sequences; ++i) {
    const KvSequence& sequence = params.sequences[i];
    QueryRange range;
    range.first.row_begin = sequence.row_begin;
    range.first.position = sequence.position;
    range.first.page_begin = static_cast<int64_t>(plan->pages.size());
    range.num_queries = sequence.num_rows * group;
    range.group = group;
    planner.Add(range);
    plan->pages.insert(
        plan->pages.end(), sequence.pages,
        sequence.pages +
            CeilDiv(sequence.position + sequence.num_rows, kPageTokens));
  }
  planner.Finish();
}

void PlanAttention(const SelectedAttentionParams& params,
                   const AttentionDevice& device, AttentionPlan* plan) {
  const KvLayout& layout = params.kv.layout;
  Planner planner(layout, device, plan);
  plan->num_kv_heads = 1;
  for (int64_t i = 0; i < params.num_selections; ++i) {
    const SelectedTokens& selection = params.selections[i];
    QueryRange range;
    range.first.row_begin = selection.row;
    range.first.page_begin = static_cast<int64_t>(plan->pages.size());
    range.first.num_tokens = selection.num_pages * kPageTokens;
    range.first.kv_head = static_cast<int32_t>(selection.kv_head);
    range.num_queries = params.num_heads / layout.num_kv_heads;
    range.group = range.num_queries;
    range.has_choice = true;
    planner.Add(range);
    plan->pages.insert(plan->pages.end(), selection.pages,
                       selection.pages + selection.num_pages);
    plan->masks.insert(plan->masks.end(), selection.masks,
                       selection.masks + selection.num_pages);
  }
  planner.Finish();
}

void PlanAttention(const ListedChoices& choices, const AttentionDevice& device,
                   AttentionPlan* plan) {
  Planner planner(choices.layout, device, plan);
  plan->num_kv_heads = 1;
  const int64_t num_kv_heads = choices.layout.num_kv_heads;
  for (int64_t i = 0; i < std::ssize(choices.rows) * num_kv_heads; ++i) {
    QueryRange range;
    range.first.row_begin = choices.rows[static_cast<size_t>(i / num_kv_heads)];
    range.first.page_begin = i * choices.most_pages;
    range.first.num_tokens = choices.most_pages * kPageTokens;
    range.first.kv_head = static_cast<int32_t>(i % num_kv_heads);
    range.num_queries = choices.num_heads / num_kv_heads;
    range.group = range.num_queries;
    range.has_choice = true;
    planner.Add(range);
  }
  planner.Finish();
}

int64_t AttentionStateFloatsFor(int64_t num_rows, int64_t num_tokens,
                                int64_t num_heads, int64_t head_dim) {
  return num_rows * num_heads * CeilDiv(num_tokens, kAttentionPartitionTokens) *
         AttentionStateFloats(head_dim);
}

}  // namespace sentencekv
