#include "tokenizer/strict_json.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "fmt/format.h"
#include "kernels/quoted.h"

namespace sentencekv {
namespace {

using Json = nlohmann::json;

// Watches the parser's events for a key that comes twice, which nlohmann's
// parser lets pass.
class Guard {
 public:
  bool operator()(Json::parse_event_t event, const Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys_.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      case Json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys_.back().insert(key).second && problem_.empty()) {
          problem_ = fmt::format("key {} occurs twice", Quoted(key));
        }
        break;
      }
      default:
        break;
    }
    return true;
  }
  const std::string& problem() const { return problem_; }

 private:
  std::vector<std::set<std::string>> keys_;  // of each open object
  std::string problem_;
};

// True when brackets nest deeper than the limit. Run before the parser, which
// would allocate for each level.
bool NestsTooDeeply(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<Json> ParseJsonObject(std::string_view text,
                                     std::string_view what) {
  if (NestsTooDeeply(text)) {
    return absl::DataLossError(
        fmt::format("{}: nested deeper than {}", what, kMaxJsonDepth));
  }
  Guard guard;
  Json result;
  try {
    // By reference: the parser copies its callback.
    result = Json::parse(
        text.begin(), text.end(),
        [&guard](int, Json::parse_event_t event, const Json& parsed) {
          return guard(event, parsed);
        });
  } catch (const Json::exception& error) {
    // The library's message may quote the text; Quoted makes it printable.
    return absl::DataLossError(
        fmt::format("{}: not JSON: {}", what, Quoted(error.what(), 300)));
  }
  if (!guard.problem().empty()) {
    return absl::DataLossError(fmt::format("{}: {}", what, guard.problem()));
  }
  if (!result.is_object()) {
    return absl::DataLossError(fmt::format("{}: not a JSON object", what));
  }
  return result;
}

}  // namespace sentencekv
