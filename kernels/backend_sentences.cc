// The checks of the operations on sentences: kernels/sentence_params.h.
#include "kernels/argument_check.h"
#include "kernels/backend.h"

namespace sentencekv {

absl::Status Backend::IndexSentences(const IndexSentencesParams& params) {
  ArgumentCheck check("IndexSentences");
  if (!check.Count("num_items", params.num_items).ok()) return check.status();
  if (params.num_items == 0) return absl::OkStatus();
  const KvLayout& layout = params.kv.layout;
  check.NotNull("kv.base", params.kv.base)
      .NotNull("items", params.items)
      .Layout(layout);
  for (int64_t i = 0; check.ok() && i < params.num_items; ++i) {
    const SentenceIndexItem& item = params.items[i];
    check.NotNull("pages of a sentence", item.pages)
        .NotNull("blocks of a sentence", item.blocks)
        .Count("begin of a sentence", item.begin)
        .InRange("end of a sentence", item.end, item.begin + 1, kMaxDimension)
        .Count("entry of a sentence", item.entry)
        .IndexKind(item.kind, item.signs);
    if (!check.ok()) break;
    for (int64_t p = item.begin / kPageTokens; p * kPageTokens < item.end;
         ++p) {
      check.InRange("page of a sentence", item.pages[p], 0,
                    layout.num_pages - 1);
    }
  }
  return check.ok() ? DoIndexSentences(params) : check.status();
}

absl::Status Backend::ScoreSentences(const ScoreSentencesParams& params) {
  ArgumentCheck check("ScoreSentences");
  if (!check.Count("num_items", params.num_items).ok()) return check.status();
  if (params.num_items == 0) return absl::OkStatus();
  check.NotNull("items", params.items)
      .Positive("num_heads", params.num_heads)
      .Positive("head_dim", params.head_dim);
  for (int64_t i = 0; check.ok() && i < params.num_items; ++i) {
    const SentenceScoreItem& item = params.items[i];
    check.NotNull("q of an item", item.q)
        .NotNull("blocks of an item", item.blocks)
        .NotNull("scores of an item", item.scores)
        .Positive("num_entries of an item", item.num_entries)
        .Count("num_summed of an item", item.num_summed)
        .Count("num_refined of an item", item.num_refined)
        .IndexKind(item.kind, item.signs);
    if (item.kind == SentenceIndexKind::kSign) {
      check.NotNull("ends of an item", item.ends);
    }
  }
  return check.ok() ? DoScoreSentences(params) : check.status();
}

absl::Status Backend::AttentionMass(const AttentionMassParams& params) {
  ArgumentCheck check("AttentionMass");
  if (!check.Count("num_queries", params.num_queries).ok()) {
    return check.status();
  }
  if (params.num_queries == 0) return absl::OkStatus();
  const KvLayout& layout = params.kv.layout;
  check.NotNull("queries", params.queries)
      .NotNull("out", params.out)
      .NotNull("kv.base", params.kv.base)
      .Layout(layout)
      .Head(layout.head_dim)
      .Positive("num_heads", params.num_heads);
  if (!check.ok()) return check.status();
  const KvSequence sequence = {.num_rows = params.num_queries,
                               .position = params.first_position,
                               .pages = params.pages};
  check
      .That(params.num_heads % layout.num_kv_heads == 0,
            "num_heads must be a multiple of num_kv_heads")
      .Sequences(layout, &sequence, 1, KvPagesUsed::kAll);
  return check.ok() ? DoAttentionMass(params) : check.status();
}

absl::Status Backend::ReadKeys(const ReadKeysParams& params) {
  ArgumentCheck check("ReadKeys");
  if (!check.Count("num_positions", params.num_positions).ok()) {
    return check.status();
  }
  if (params.num_positions == 0) return absl::OkStatus();
  const KvLayout& layout = params.kv.layout;
  check.NotNull("pages", params.pages)
      .NotNull("positions", params.positions)
      .NotNull("out", params.out)
      .NotNull("kv.base", params.kv.base)
      .Layout(layout)
      .InRange("kv_head", params.kv_head, 0, layout.num_kv_heads - 1);
  for (int64_t i = 0; check.ok() && i < params.num_positions; ++i) {
    if (!check.Count("position", params.positions[i]).ok()) break;
    check.InRange("page", params.pages[params.positions[i] / kPageTokens], 0,
                  layout.num_pages - 1);
  }
  return check.ok() ? DoReadKeys(params) : check.status();
}

}  // namespace sentencekv
