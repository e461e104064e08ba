// Metrics as Prometheus sees them: fetched over HTTP and parsed.
#pragma once

#include <map>
#include <string>

namespace sentencekv {

// GET `path` from 127.0.0.1:`port`; the whole response, "" without one.
std::string HttpGet(int port, const std::string& path);

// Samples of an exposition by "name{labels}". Fails the test on a line that is
// neither a comment nor a sample.
std::map<std::string, double> ParseExposition(const std::string& response);

}  // namespace sentencekv
