#include "server/scrape_families.h"

#include <utility>

#include "server/process_stats.h"

namespace sentencekv {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// Adds one sample to the family `name`, which is made when it is not the last.
void Append(MetricType type, const char* name, const char* help, Labels labels,
            double value, MetricFamilies* families) {
  if (families->empty() || families->back().name != name)
    families->push_back({name, help, type, {}});
  ClientMetric metric;
  metric.label = std::move(labels);
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  families->back().metric.push_back(std::move(metric));
}

void AppendGauge(const char* name, const char* help, Labels labels,
                 int64_t value, MetricFamilies* families) {
  Append(MetricType::Gauge, name, help, std::move(labels),
         static_cast<double>(value), families);
}

void AppendCounter(const char* name, const char* help, Labels labels,
                   int64_t value, MetricFamilies* families) {
  Append(MetricType::Counter, name, help, std::move(labels),
         static_cast<double>(value), families);
}

// Families that mean the same under both names.
constexpr std::pair<const char*, const char*> kAliases[] = {
    {"sentencekv_requests_waiting", "vllm:num_requests_waiting"},
    {"sentencekv_requests_running", "vllm:num_requests_running"},
    {"sentencekv_kv_usage_ratio", "vllm:kv_cache_usage_perc"},
    {"sentencekv_prefix_cache_queries_total",
     "vllm:prefix_cache_queries_total"},
    {"sentencekv_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"},
    {"sentencekv_preemptions_total", "vllm:num_preemptions_total"},
    {"sentencekv_time_to_first_token_seconds",
     "vllm:time_to_first_token_seconds"},
    {"sentencekv_inter_token_latency_seconds",
     "vllm:inter_token_latency_seconds"},
};

void AppendPrefixFamilies(const EngineStats& stats, const Labels& labels,
                          MetricFamilies* families) {
  AppendGauge("sentencekv_prefix_cache_pages",
              "Free pages that hold K and V for reuse", labels,
              stats.pages_cached, families);
  AppendCounter("sentencekv_prefix_cache_queries_total",
                "Prompt tokens looked up in the prefix cache", labels,
                stats.prefix_query_tokens, families);
  AppendCounter("sentencekv_prefix_cache_hits_total",
                "Prompt tokens found there", labels, stats.prefix_hit_tokens,
                families);
  AppendCounter("sentencekv_prefix_cache_evictions_total",
                "Cached pages given up for want of memory", labels,
                stats.prefix_evictions, families);
}

// One sample of the family for each policy.
void AppendReadCounter(const char* name, const char* help,
                       const std::string& model_name, const EngineStats& stats,
                       double (*value)(const ReadTotals&),
                       MetricFamilies* families) {
  for (const PolicyReads& reads : stats.reads) {
    Append(MetricType::Counter, name, help,
           {{"model_name", model_name}, {"policy", std::string(reads.policy)}},
           value(reads.totals), families);
  }
}

void AppendReadFamilies(const EngineStats& stats, const std::string& model_name,
                        MetricFamilies* families) {
  const auto counter = [&](const char* name, const char* help,
                           double (*value)(const ReadTotals&)) {
    AppendReadCounter(name, help, model_name, stats, value, families);
  };
  counter("sentencekv_selection_tokens_total",
          "Tokens that decode steps of a selecting policy computed",
          [](const ReadTotals& reads) {
            return static_cast<double>(reads.counts.steps);
          });
  counter("sentencekv_selection_attended_tokens_total",
          "Tokens that they attended to, mean over layers and KV heads",
          [](const ReadTotals& reads) {
            return reads.counts.TokensPerStep() *
                   static_cast<double>(reads.counts.steps);
          });
  counter("sentencekv_selection_sentences_total",
          "Sentences chosen where the step before chose too, over layers and "
          "KV heads",
          [](const ReadTotals& reads) {
            return static_cast<double>(reads.counts.sentences_compared);
          });
  counter("sentencekv_selection_repeated_sentences_total",
          "Of those, chosen by the step before in the same layer and KV head",
          [](const ReadTotals& reads) {
            return static_cast<double>(reads.counts.sentences_repeated);
          });
  counter("sentencekv_selection_score_seconds_total",
          "Time of scoring sentences",
          [](const ReadTotals& reads) { return reads.score_seconds; });
  counter("sentencekv_selection_select_seconds_total",
          "Time of choosing among them",
          [](const ReadTotals& reads) { return reads.select_seconds; });
  counter("sentencekv_selection_repairs_total",
          "KV heads that do not wait for their choice and yet read it at once",
          [](const ReadTotals& reads) {
            return static_cast<double>(reads.repairs);
          });
  counter("sentencekv_sentences_indexed_total",
          "Sentences of prompts and answers that got entries in the index",
          [](const ReadTotals& reads) {
            return static_cast<double>(reads.sentences_indexed);
          });
  const Labels labels = {{"model_name", model_name}};
  const SentenceIndexSize& index = stats.sentence_index;
  AppendGauge("sentencekv_index_sentences",
              "Sentences in the indexes of running requests", labels,
              index.sentences, families);
  AppendGauge("sentencekv_index_entries",
              "Their entries, in all layers and KV heads", labels,
              index.entries, families);
  AppendGauge("sentencekv_index_bytes", "Memory of these indexes", labels,
              index.bytes, families);
}

// What device memory holds of K and V. All 0 where they are used in place.
void AppendDeviceFamilies(const EngineStats& stats, const Labels& labels,
                          MetricFamilies* families) {
  const KvTransfers& device = stats.device;
  AppendGauge("sentencekv_device_frame_capacity",
              "Frames of device memory: room for a page of one layer", labels,
              device.frames_total, families);
  AppendGauge("sentencekv_device_frames_used",
              "Frames that hold a page or runs of chosen sentences", labels,
              device.frames_used, families);
  AppendCounter("sentencekv_device_page_hits_total",
                "Pages of a layer that an operation wanted and were there",
                labels, device.hits, families);
  AppendCounter("sentencekv_device_page_misses_total",
                "Pages of a layer that had to be copied to the device", labels,
                device.misses, families);
  AppendCounter("sentencekv_device_chosen_hits_total",
                "Runs of a page and KV head that were chosen and were there",
                labels, device.chosen_hits, families);
  AppendCounter("sentencekv_device_chosen_misses_total",
                "Chosen runs that had to be copied to the device", labels,
                device.chosen_misses, families);
  AppendCounter("sentencekv_device_evictions_total",
                "Pages and runs that made room on the device", labels,
                device.evictions, families);
  const auto append_bytes = [&](const char* direction, int64_t bytes) {
    Labels with_direction = labels;
    with_direction.push_back({"direction", direction});
    AppendCounter("sentencekv_device_bytes_copied_total",
                  "Bytes of K and V copied between host and device",
                  std::move(with_direction), bytes, families);
  };
  append_bytes("to_device", device.bytes_to_device);
  append_bytes("to_host", device.bytes_to_host);
  const auto append_steps = [&](const char* graph, int64_t steps) {
    Labels with_graph = labels;
    with_graph.push_back({"graph", graph});
    AppendCounter("sentencekv_device_graph_steps_total",
                  "Steps launched as one graph: captured for them, or replayed",
                  std::move(with_graph), steps, families);
  };
  append_steps("captured", stats.graph_steps.recorded);
  append_steps("replayed", stats.graph_steps.repeated);
  Append(MetricType::Counter, "sentencekv_device_copy_stall_seconds_total",
         "Time that the engine spent on submitting copies and waiting for them",
         labels, device.seconds_stalled, families);
}

}  // namespace

void AppendEngineFamilies(const EngineStats& stats,
                          const std::string& model_name,
                          MetricFamilies* families) {
  const Labels labels = {{"model_name", model_name}};
  const auto labels_and = [&](const char* name, const char* value) {
    return Labels{{"model_name", model_name}, {name, value}};
  };
  AppendGauge("sentencekv_requests_running", "Requests being computed", labels,
              stats.running, families);
  AppendGauge("sentencekv_requests_waiting", "Requests in the queue", labels,
              stats.waiting, families);
  AppendGauge("sentencekv_waiting_tokens", "Prompt tokens in the queue", labels,
              stats.waiting_tokens, families);
  AppendGauge("sentencekv_kv_pages", "Pages of the KV pool by state",
              labels_and("state", "free"), stats.pages_free, families);
  AppendGauge("sentencekv_kv_pages", "Pages of the KV pool by state",
              labels_and("state", "used"), stats.pages_used, families);
  AppendGauge("sentencekv_kv_page_capacity", "Pages of the KV pool", labels,
              stats.pages_total, families);
  AppendGauge("sentencekv_kv_page_tokens", "Tokens that a page holds", labels,
              stats.page_tokens, families);
  AppendGauge("sentencekv_kv_page_bytes", "Bytes of a page, all layers", labels,
              stats.kv_bytes_per_page, families);
  const double usage = stats.pages_total > 0
                           ? static_cast<double>(stats.pages_used) /
                                 static_cast<double>(stats.pages_total)
                           : 0;
  Append(MetricType::Gauge, "sentencekv_kv_usage_ratio",
         "Share of the KV pool that is used, 0 to 1", labels, usage, families);
  AppendGauge("sentencekv_draining", "1 while the server shuts down", labels,
              stats.draining ? 1 : 0, families);
  AppendCounter("sentencekv_prompt_tokens_total", "Prompt tokens", labels,
                stats.prompt_tokens, families);
  AppendCounter("sentencekv_generated_tokens_total", "Generated tokens", labels,
                stats.generated_tokens, families);
  AppendCounter("sentencekv_preemptions_total",
                "Requests put back into the queue for want of pages", labels,
                stats.preemptions, families);
  AppendCounter("sentencekv_steps_total", "Engine steps", labels, stats.steps,
                families);
  AppendPrefixFamilies(stats, labels, families);
  AppendReadFamilies(stats, model_name, families);
  AppendDeviceFamilies(stats, labels, families);
  AppendGauge("vllm:cache_config_info", "Shape of the KV pool; always 1",
              {{"model_name", model_name},
               {"block_size", std::to_string(stats.page_tokens)},
               {"num_gpu_blocks", std::to_string(stats.pages_total)}},
              1, families);
}

void AppendProcessFamilies(absl::Duration uptime, MetricFamilies* families) {
  const ProcessStats process = ReadProcessStats();
  AppendGauge("sentencekv_process_resident_bytes",
              "Resident memory of the server process", {},
              process.resident_bytes, families);
  AppendGauge("sentencekv_process_threads", "Threads of the server process", {},
              process.threads, families);
  Append(MetricType::Gauge, "sentencekv_process_uptime_seconds",
         "Time since the server was ready", {}, absl::ToDoubleSeconds(uptime),
         families);
}

void AppendAliases(MetricFamilies* families) {
  const size_t count = families->size();
  families->reserve(count + std::size(kAliases));
  for (size_t i = 0; i < count; ++i) {
    for (const auto& [name, alias] : kAliases) {
      if ((*families)[i].name != name) continue;
      MetricFamily copy = (*families)[i];
      copy.name = alias;
      families->push_back(std::move(copy));
    }
  }
}

}  // namespace sentencekv
