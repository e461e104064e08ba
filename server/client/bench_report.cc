#include "server/client/bench_report.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fmt/format.h"
#include "server/client/exit_code.h"

namespace sentencekv {
namespace {

nlohmann::json PercentilesToJson(const Percentiles& values) {
  return {{"count", values.count}, {"mean", values.mean}, {"p50", values.p50},
          {"p90", values.p90},     {"p99", values.p99},   {"max", values.max}};
}

std::string PercentilesLine(std::string_view name, const Percentiles& values) {
  return fmt::format("{:16}{:10.1f}{:10.1f}{:10.1f}{:10.1f}\n", name,
                     values.p50, values.p90, values.p99, values.max);
}

// Gaps of all streams before the long prompt was sent, and while it was
// prefilled: until its first token.
IntrusionReport MakeIntrusionReport(const BenchResult& result) {
  const Answer& intruder = *result.intruder;
  const SteadyTime begin = intruder.sent;
  const SteadyTime end = intruder.token_arrivals.empty()
                             ? intruder.ended
                             : intruder.token_arrivals.front();
  IntrusionReport report;
  std::vector<double> before;
  std::vector<double> during;
  double longest_ms = 0;
  const auto add_during = [&](SteadyTime from, SteadyTime to) {
    during.push_back(MillisecondsBetween(from, to));
    if (during.back() < longest_ms) return;
    longest_ms = during.back();
    report.longest_gap_at_ms = MillisecondsBetween(begin, from);
  };
  for (const Answer& answer : result.answers) {
    const auto& times = answer.token_arrivals;
    for (size_t i = 1; i < times.size(); ++i) {
      if (times[i] <= begin) {
        before.push_back(MillisecondsBetween(times[i - 1], times[i]));
      } else if (times[i - 1] < end) {
        add_during(times[i - 1], times[i]);
      }
    }
    // A stream that got nothing more until the end was in a gap all the while.
    if (!times.empty() && times.back() < end && answer.ended >= end) {
      add_during(times.back(), end);
    }
  }
  if (intruder.finish.has_value()) {
    report.prompt_tokens = intruder.finish->usage().prompt_tokens();
  }
  report.ttft_ms = intruder.ttft_ms().value_or(0);
  report.gaps_before = PercentilesOf(std::move(before));
  report.gaps_during = PercentilesOf(std::move(during));
  if (report.gaps_before.p50 > 0) {
    report.ratio = report.gaps_during.max / report.gaps_before.p50;
  }
  return report;
}

}  // namespace

Percentiles PercentilesOf(std::vector<double> values) {
  Percentiles result;
  if (values.empty()) return result;
  std::sort(values.begin(), values.end());
  const auto at = [&values](double share) {
    const auto rank = static_cast<size_t>(
        std::ceil(share * static_cast<double>(values.size())));
    return values[std::max<size_t>(rank, 1) - 1];
  };
  result.count = values.size();
  result.mean = std::accumulate(values.begin(), values.end(), 0.0) /
                static_cast<double>(values.size());
  result.p50 = at(0.5);
  result.p90 = at(0.9);
  result.p99 = at(0.99);
  result.max = values.back();
  return result;
}

BenchReport MakeBenchReport(const BenchResult& result) {
  BenchReport report;
  report.duration_seconds =
      MillisecondsBetween(result.started, result.ended) / 1e3;
  std::vector<double> ttft;
  std::vector<double> gaps;
  std::vector<double> totals;
  for (const Answer& answer : result.answers) {
    const bool cut_off_on_purpose =
        result.intruder.has_value() &&
        answer.status.error_code() == grpc::StatusCode::CANCELLED;
    if (answer.status.ok() || cut_off_on_purpose) {
      ++report.completed;
    } else {
      ++report.failed;
      ++report.errors[std::string(Name(answer.status.error_code()))];
    }
    report.generated_tokens += answer.token_ids.size();
    if (answer.finish.has_value()) {
      report.prompt_tokens += answer.finish->usage().prompt_tokens();
    }
    if (answer.ttft_ms().has_value()) ttft.push_back(*answer.ttft_ms());
    if (answer.status.ok()) totals.push_back(answer.total_ms());
    const auto& times = answer.token_arrivals;
    for (size_t i = 1; i < times.size(); ++i) {
      gaps.push_back(MillisecondsBetween(times[i - 1], times[i]));
    }
  }
  report.ttft_ms = PercentilesOf(std::move(ttft));
  report.inter_token_ms = PercentilesOf(std::move(gaps));
  report.total_ms = PercentilesOf(std::move(totals));
  if (result.intruder.has_value()) {
    report.intrusion = MakeIntrusionReport(result);
  }
  return report;
}

nlohmann::json BenchReportToJson(const BenchReport& report) {
  const double seconds = std::max(report.duration_seconds, 1e-9);
  nlohmann::json json = {
      {"completed", report.completed},
      {"failed", report.failed},
      {"errors", report.errors},
      {"duration_s", report.duration_seconds},
      {"prompt_tokens", report.prompt_tokens},
      {"generated_tokens", report.generated_tokens},
      {"generated_tokens_per_second", report.generated_tokens / seconds},
      {"prompt_tokens_per_second", report.prompt_tokens / seconds},
      {"requests_per_second", report.completed / seconds},
      {"ttft_ms", PercentilesToJson(report.ttft_ms)},
      {"inter_token_ms", PercentilesToJson(report.inter_token_ms)},
      {"total_ms", PercentilesToJson(report.total_ms)},
  };
  if (report.intrusion.has_value()) {
    const IntrusionReport& intrusion = *report.intrusion;
    json["intrusion"] = {
        {"prompt_tokens", intrusion.prompt_tokens},
        {"ttft_ms", intrusion.ttft_ms},
        {"gaps_before_ms", PercentilesToJson(intrusion.gaps_before)},
        {"gaps_during_ms", PercentilesToJson(intrusion.gaps_during)},
        {"median_gap_before_ms", intrusion.gaps_before.p50},
        {"longest_gap_during_ms", intrusion.gaps_during.max},
        {"longest_gap_at_ms", intrusion.longest_gap_at_ms},
        {"ratio", intrusion.ratio}};
  }
  return json;
}

std::string BenchReportToText(const BenchReport& report) {
  const double seconds = std::max(report.duration_seconds, 1e-9);
  std::string text = fmt::format(
      "requests   {} completed, {} failed in {:.2f} s\n"
      "tokens     {} of prompts, {} generated: {:.1f} generated tokens/s\n",
      report.completed, report.failed, report.duration_seconds,
      report.prompt_tokens, report.generated_tokens,
      report.generated_tokens / seconds);
  for (const auto& [code, count] : report.errors) {
    text += fmt::format("error      {} x {}\n", count, code);
  }
  text += fmt::format("{:16}{:>10}{:>10}{:>10}{:>10}\n", "ms", "p50", "p90",
                      "p99", "max");
  text += PercentilesLine("first token", report.ttft_ms);
  text += PercentilesLine("between tokens", report.inter_token_ms);
  text += PercentilesLine("whole request", report.total_ms);
  if (report.intrusion.has_value()) {
    const IntrusionReport& intrusion = *report.intrusion;
    text += fmt::format(
        "A prompt of {} tokens came in beside them; first token after {:.0f} "
        "ms.\nmedian gap before {:.1f} ms, longest gap during its prefill "
        "{:.1f} ms: ratio {:.2f}\n",
        intrusion.prompt_tokens, intrusion.ttft_ms, intrusion.gaps_before.p50,
        intrusion.gaps_during.max, intrusion.ratio);
  }
  return text;
}

}  // namespace sentencekv
