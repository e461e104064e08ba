// GGUF metadata as ConfigFields.
#pragma once

#include <string>
#include <string_view>

#include "engine/config_fields.h"
#include "engine/gguf.h"

namespace sentencekv {

// Keys below `prefix` ("llama."); borrows both.
class GgufFields final : public ConfigFields {
 public:
  GgufFields(const GgufFile& file, std::string_view prefix)
      : file_(file), prefix_(prefix) {}

  FieldValue Get(std::string_view key) const override;
  std::string FullName(std::string_view key) const override {
    return std::string(prefix_) + std::string(key);
  }
  std::string_view prefix() const { return prefix_; }

 private:
  const GgufFile& file_;
  std::string_view prefix_;
};

}  // namespace sentencekv
