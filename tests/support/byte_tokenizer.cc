#include "tests/support/byte_tokenizer.h"

#include <array>

namespace sentencekv {
namespace {

constexpr std::array<std::string_view, 4> kControls = {
    "<s>", "</s>", "<|im_start|>", "<|im_end|>"};
constexpr std::array<int32_t, 2> kStopIds = {ByteTokenizer::kEos,
                                             ByteTokenizer::kTurnEnd};

}  // namespace

absl::StatusOr<std::vector<int32_t>> ByteTokenizer::Encode(
    std::string_view text, const EncodeOptions& options) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() + 1);
  if (options.add_bos && add_bos_) ids.push_back(kBos);
  while (!text.empty()) {
    size_t control = kControls.size();
    if (options.parse_special) {
      for (control = 0; control < kControls.size(); ++control) {
        if (text.starts_with(kControls[control])) break;
      }
    }
    if (control < kControls.size()) {
      ids.push_back(kBos + static_cast<int32_t>(control));
      text.remove_prefix(kControls[control].size());
    } else {
      ids.push_back(static_cast<uint8_t>(text.front()));
      text.remove_prefix(1);
    }
  }
  return ids;
}

std::string ByteTokenizer::TokenBytes(int32_t id, bool render_special) const {
  if (id >= 0 && id < kBos) return std::string(1, static_cast<char>(id));
  if (!is_control(id) || !render_special) return "";
  return std::string(kControls[id - kBos]);
}

std::span<const int32_t> ByteTokenizer::stop_ids() const { return kStopIds; }

bool ByteTokenizer::is_control(int32_t id) const {
  return id >= kBos && id < kVocabSize;
}

std::optional<int32_t> ByteTokenizer::FindControl(std::string_view text) const {
  for (size_t i = 0; i < kControls.size(); ++i) {
    if (text == kControls[i]) return kBos + static_cast<int32_t>(i);
  }
  return std::nullopt;
}

std::optional<int32_t> ByteTokenizer::FindLiteral(std::string_view text) const {
  if (text.size() != 1) return std::nullopt;
  return static_cast<uint8_t>(text.front());
}

}  // namespace sentencekv
