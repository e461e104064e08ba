#include "tokenizer/tokenizer.h"

namespace sentencekv {

std::string Tokenizer::Decode(std::span<const int32_t> ids,
                              bool render_special) const {
  std::string text;
  for (int32_t id : ids) text += TokenBytes(id, render_special);
  if (strips_leading_space() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

}  // namespace sentencekv
