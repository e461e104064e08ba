// `sentence-paper`: the method of SentenceKV (https://arxiv.org/abs/2504.00970)
// as its authors released it, kept for comparison.
//
// At the end of a prompt each KV head keeps r * tau of its tokens, by the
// attention that they get from the last 32. A decode step reads the first and
// the last 32 of what is kept and generated, and the tokens of the sentences
// whose mean key fits the mean query of the sentence that is being generated
// best, tau in all; at the start of a sentence it reads everything. Where query
// heads share a KV head, their scores are summed.
//
// Where the method is odd, so is this: a token between the first 32 and the
// last 32 that belongs to the open sentence is not read; entry 32 is never
// read; long sentences are listed in part or not at all.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cache/kv_policy.h"

namespace sentencekv {

inline constexpr int64_t kPaperTokenBudget = 1024;   // tau
inline constexpr double kPaperSemanticFactor = 3.0;  // r
inline constexpr int64_t kPaperLeastBudget = 64;     // the first and last 32

// Tokens that end a sentence in the release: those that are spelt exactly as
// one of its list of marks. Marks that are no token of the vocabulary are left
// out (the release takes the unknown token for them, where there is one).
std::vector<int32_t> PaperSentenceEnds(const Tokenizer& tokenizer);

// `sentence_ends`: ids of the tokens that end a sentence.
std::unique_ptr<KvPolicy> MakeSentencePaperPolicy(
    const ModelShape& shape, std::vector<int32_t> sentence_ends);

// token_budget at least 64, semantic_factor in 1..1000.
absl::Status ValidateSentencePaperOptions(const KvOptions& options);

}  // namespace sentencekv
