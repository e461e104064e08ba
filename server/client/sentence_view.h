// What the sentences of an answer were read from, for people and for programs.
#pragma once

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "sentencekv/v1/sentencekv.pb.h"

namespace sentencekv {

struct ViewStyle {
  int width = 100;      // of a line, characters
  bool colour = false;  // with escape sequences of terminals
};

// Each sentence of the answer on a line, and below it those it was read from:
// a bar, the share, the position, the text.
std::string RenderReads(const std::vector<v1::SentenceReads>& reads,
                        const ViewStyle& style);

// What `generate --json --show-sentences` has under "sentences".
nlohmann::json ReadsToJson(const std::vector<v1::SentenceReads>& reads);

// `text` as one line of at most `width` characters, "…" being the last one of
// text that is cut; white space collapsed, control characters left out.
std::string OneLine(const std::string& text, int width);

}  // namespace sentencekv
