// Text from a file, made fit for a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sentencekv {

// `text` between single quotes: bytes other than printable ASCII as \xNN, and
// cut at `max_bytes` with "...". A hostile name can neither forge a log line
// nor fill the log.
std::string Quoted(std::string_view text, size_t max_bytes = 120);

}  // namespace sentencekv
