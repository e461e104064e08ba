#include "kernels/quoted.h"

#include <iterator>

#include "fmt/format.h"

namespace sentencekv {

std::string Quoted(std::string_view text, size_t max_bytes) {
  std::string result = "'";
  for (const char c : text.substr(0, max_bytes)) {
    if (c >= 0x20 && c < 0x7f) {
      result.push_back(c);
    } else {
      fmt::format_to(std::back_inserter(result), "\\x{:02x}",
                     static_cast<unsigned char>(c));
    }
  }
  if (text.size() > max_bytes) result += "...";
  result.push_back('\'');
  return result;
}

}  // namespace sentencekv
