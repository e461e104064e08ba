// The decisions of sentence-paper, free of devices: which tokens of a prompt
// are kept, and which of the kept and the generated ones a decode step reads.
//
// "Entries" number what one KV head has of a sequence: the kept prompt tokens
// in order, then every generated token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sentencekv {

// The last tokens of a prompt, which are always kept and whose queries judge
// the others; the first and the last entries, which are always read.
inline constexpr int64_t kPaperWindow = 32;

// Tokens of a prompt that are kept, of `budget` in all.
constexpr int64_t NumKept(int64_t num_prompt, int64_t budget) {
  return num_prompt < budget ? num_prompt : budget;
}

// Positions to keep, ascending: the last 32, and of the others those with the
// highest score, up to `num_kept` in all. A token's score is the highest mass
// among itself and its three neighbours to either side; of equal scores the
// lowest position wins. `mass` is of the positions before the last 32.
// REQUIRES: 32 <= num_kept <= mass.size() + 32.
std::vector<int32_t> KeepHeaviest(std::span<const float> mass,
                                  int64_t num_kept);

// First positions of the sentences of a prompt, and its length at the end. A
// sentence ends with a position of `ends` (ascending); the rest of the prompt
// is one too.
std::vector<int32_t> SentenceBounds(std::span<const int32_t> ends,
                                    int64_t num_prompt);

// Entries that a sentence of this sequence lists at most.
int64_t LongestListed(int64_t num_kept, int64_t num_sentences);

// The sentences of one layer and KV head.
class PaperIndex {
 public:
  // `kept`: positions, ascending.
  PaperIndex(std::vector<int32_t> kept, int64_t num_prompt)
      : kept_(std::move(kept)), num_prompt_(num_prompt) {}

  // A sentence of consecutive entries, of which the first `num_listed` can be
  // selected. keys: [entries, D], at least one.
  void AddSentence(int64_t first_entry, int64_t num_listed, int64_t head_dim,
                   std::span<const float> keys);

  // Positions of all of the first `num_entries` entries, ascending.
  std::vector<int32_t> All(int64_t num_entries) const;
  // The same of those that a step with this query (any positive multiple of
  // it; [D]) reads: the first 32, the last 32, and up to token_budget - 64
  // between them, taken from the sentences in the order of the product of
  // query and mean key.
  std::vector<int32_t> Select(std::span<const float> query, int64_t num_entries,
                              int64_t token_budget) const;

  std::span<const int32_t> kept() const { return kept_; }

 private:
  struct Sentence {
    int64_t first_entry = 0;
    int64_t num_listed = 0;
  };

  int32_t Position(int64_t entry) const;
  std::vector<size_t> Rank(std::span<const float> query) const;

  std::vector<int32_t> kept_;
  int64_t num_prompt_;
  std::vector<Sentence> sentences_;
  std::vector<float> means_;  // [sentences, D]
};

}  // namespace sentencekv
