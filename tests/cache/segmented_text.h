// Texts cut into sentences, for the tests of segmentation.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cache/segmenter.h"
#include "tokenizer/tokenizer.h"

namespace sentencekv {

// A tokenizer with its marks.
struct MarkedTokenizer {
  std::string name;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const SentenceMarks> marks;
};

// One token a byte.
const MarkedTokenizer& Bytes();
// Bytes, tiny byte-level BPE and SentencePiece vocabularies of every family,
// and SmolLM2's where its file is here. Made once.
const std::vector<MarkedTokenizer>& AllTokenizers();

// Token ids; control tokens are recognised, no BOS is added.
std::vector<int32_t> Encode(const MarkedTokenizer& tokenizer,
                            std::string_view text);

// The ends found in all of `tokens` at once.
std::vector<int32_t> EndsOf(const MarkedTokenizer& tokenizer,
                            std::span<const int32_t> tokens,
                            SegmenterOptions options = {});

// The decoded sentences with control tokens, the open one last if not empty.
std::vector<std::string> SentencesOf(const MarkedTokenizer& tokenizer,
                                     std::span<const int32_t> tokens,
                                     SegmenterOptions options = {});

// Without white space at both ends: whether it belongs to the sentence before
// or behind is the tokenizer's choice.
std::vector<std::string> Trimmed(std::vector<std::string> sentences);

// No sentence is joined or split: only what the text says counts.
inline constexpr SegmenterOptions kNatural = {.min_tokens = 1,
                                              .max_tokens = 4096};

}  // namespace sentencekv
