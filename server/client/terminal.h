// Where a sub-command reads and writes; tests give it strings.
#pragma once

#include <iosfwd>

#include "server/client/sentence_view.h"

namespace sentencekv {

struct Terminal {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool interactive = false;  // a person types: show prompts
  ViewStyle style = {};      // of what goes to `out`
};

}  // namespace sentencekv
