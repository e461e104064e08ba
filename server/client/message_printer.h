// Prints a message of the protocol as aligned lines or as JSON, field by
// field: a field added to the protocol shows up without further work.
#pragma once

#include "google/protobuf/message.h"
#include "nlohmann/json.hpp"
#include "server/client/terminal.h"

namespace sentencekv {

// Numbers as numbers (64-bit ones too), repeated fields as arrays.
// REQUIRES: no field of `message` is a message or a map.
nlohmann::json FlatMessageToJson(const google::protobuf::Message& message);

// "name            value" a line, in the order of the fields.
void PrintFlatMessage(Terminal& terminal,
                      const google::protobuf::Message& message);

}  // namespace sentencekv
