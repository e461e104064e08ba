// A JSON object as ConfigFields.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "engine/config_fields.h"
#include "nlohmann/json.hpp"

namespace sentencekv {

// Members of `object`, which it borrows; `prefix` goes before their names in
// messages ("rope_scaling.").
class JsonFields final : public ConfigFields {
 public:
  explicit JsonFields(const nlohmann::json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  FieldValue Get(std::string_view key) const override;
  std::string FullName(std::string_view key) const override {
    return prefix_ + std::string(key);
  }

 private:
  const nlohmann::json& object_;
  std::string prefix_;
};

}  // namespace sentencekv
