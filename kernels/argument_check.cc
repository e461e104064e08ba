#include "kernels/argument_check.h"

namespace sentencekv {

void ArgumentCheck::Fail(std::string_view problem) {
  if (!status_.ok()) return;
  status_ =
      absl::InvalidArgumentError(fmt::format("{}: {}", operation_, problem));
}

ArgumentCheck& ArgumentCheck::Selection(const KvLayout& layout,
                                        const SelectedTokens& selection) {
  Count("row of a selection", selection.row);
  InRange("KV head of a selection", selection.kv_head, 0,
          layout.num_kv_heads - 1);
  Positive("num_pages of a selection", selection.num_pages);
  NotNull("pages of a selection", selection.pages);
  NotNull("masks of a selection", selection.masks);
  for (int64_t i = 0; ok() && i < selection.num_pages; ++i) {
    InRange("page of a selection", selection.pages[i], 0, layout.num_pages - 1);
    That(selection.masks[i] != 0, "a mask of a selection is 0");
  }
  return *this;
}

ArgumentCheck& ArgumentCheck::Sequences(const KvLayout& layout,
                                        const KvSequence* sequences,
                                        int64_t count, KvPagesUsed used) {
  for (int64_t i = 0; ok() && i < count; ++i) {
    const KvSequence& sequence = sequences[i];
    Count("row_begin", sequence.row_begin)
        .Positive("num_rows", sequence.num_rows)
        .Count("position", sequence.position)
        .NotNull("pages", sequence.pages);
    if (!ok()) break;
    const int64_t kv_len = sequence.position + sequence.num_rows;
    const int64_t num_pages = (kv_len + kPageTokens - 1) / kPageTokens;
    const int64_t first_page =
        used == KvPagesUsed::kAll ? 0 : sequence.position / kPageTokens;
    for (int64_t page = first_page; ok() && page < num_pages; ++page) {
      InRange("page", sequence.pages[page], 0, layout.num_pages - 1);
    }
  }
  return *this;
}

}  // namespace sentencekv
