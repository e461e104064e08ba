// Metric families that are made when somebody scrapes: what the engine and the
// operating system count themselves, and the aliases. Pure functions.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/engine_observer.h"

namespace sentencekv {

using MetricFamilies = std::vector<prometheus::MetricFamily>;

// Running, waiting, pages, tokens and steps.
void AppendEngineFamilies(const EngineStats& stats,
                          const std::string& model_name,
                          MetricFamilies* families);

// Resident bytes, threads, uptime.
void AppendProcessFamilies(absl::Duration uptime, MetricFamilies* families);

// Repeats families under the names that vLLM gave them, which routers,
// autoscalers and dashboards read.
void AppendAliases(MetricFamilies* families);

}  // namespace sentencekv
