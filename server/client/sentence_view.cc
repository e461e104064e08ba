#include "server/client/sentence_view.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "fmt/format.h"

namespace sentencekv {
namespace {

constexpr int kBarCells = 10;
// A cell filled to 1/8, 2/8, ...
constexpr std::string_view kEighths[] = {"▏", "▎", "▍", "▌", "▋", "▊", "▉"};
constexpr int kLeastTextWidth = 20;

constexpr std::string_view kBold = "1";
constexpr std::string_view kDim = "2";
constexpr std::string_view kCyan = "36";

std::string Paint(std::string_view code, const std::string& text,
                  const ViewStyle& style) {
  if (!style.colour) return text;
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

// `share` of kBarCells cells, padded to their width.
std::string Bar(double share) {
  const int eighths = static_cast<int>(
      std::lround(std::clamp(share, 0.0, 1.0) * kBarCells * 8));
  std::string bar;
  int cells = eighths / 8;
  for (int i = 0; i < cells; ++i) bar += "█";
  if (eighths % 8 != 0) {
    bar += kEighths[eighths % 8 - 1];
    ++cells;
  }
  return bar + std::string(static_cast<size_t>(kBarCells - cells), ' ');
}

std::string RenderSource(const v1::SourceSentence& source,
                         const ViewStyle& style) {
  const std::string place = fmt::format("{:>6}{}", source.begin(),
                                        source.generated() ? " (answer)" : "");
  // Two spaces, the bar, " 100 %", the place, two spaces.
  const int left = 2 + kBarCells + 6 + static_cast<int>(place.size()) + 2;
  return fmt::format(
      "  {}{:>4.0f} %{}  {}\n", Paint(kCyan, Bar(source.share()), style),
      source.share() * 100, Paint(kDim, place, style),
      OneLine(source.text(), std::max(style.width - left, kLeastTextWidth)));
}

bool IsSpaceOrControl(char c) {
  return static_cast<unsigned char>(c) <= ' ' || c == '\x7f';
}

bool BeginsCodePoint(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
}

}  // namespace

std::string OneLine(const std::string& text, int width) {
  std::string line;
  for (const char c : text) {
    if (!IsSpaceOrControl(c)) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  if (line.ends_with(' ')) line.pop_back();
  int characters = 0;
  size_t cut = 0;  // where the last character that fits begins
  for (size_t i = 0; i < line.size(); ++i) {
    if (!BeginsCodePoint(line[i])) continue;
    if (++characters == width) cut = i;
  }
  if (characters <= width) return line;
  return line.substr(0, cut) + "…";
}

std::string RenderReads(const std::vector<v1::SentenceReads>& reads,
                        const ViewStyle& style) {
  std::string view;
  for (const v1::SentenceReads& sentence : reads) {
    view += Paint(kBold, OneLine(sentence.text(), style.width), style) + "\n";
    if (sentence.whole_context()) {
      view += "  " + Paint(kDim, "read from the whole context", style) + "\n";
    }
    for (const v1::SourceSentence& source : sentence.sources()) {
      view += RenderSource(source, style);
    }
  }
  return view;
}

nlohmann::json ReadsToJson(const std::vector<v1::SentenceReads>& reads) {
  auto array = nlohmann::json::array();
  for (const v1::SentenceReads& sentence : reads) {
    auto sources = nlohmann::json::array();
    for (const v1::SourceSentence& source : sentence.sources()) {
      sources.push_back({{"begin", source.begin()},
                         {"end", source.end()},
                         {"text", source.text()},
                         {"generated", source.generated()},
                         {"share", source.share()},
                         {"times_chosen", source.times_chosen()}});
    }
    array.push_back({{"begin", sentence.begin()},
                     {"end", sentence.end()},
                     {"text", sentence.text()},
                     {"whole_context", sentence.whole_context()},
                     {"selections", sentence.selections()},
                     {"sources", std::move(sources)}});
  }
  return array;
}

}  // namespace sentencekv
