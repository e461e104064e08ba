// Metrics as Prometheus sees them: fetched over HTTP and parsed.
#include "server/engine_metrics.h"

#include <map>
#include <sstream>

#include "kernels/version.h"
#include "server/scrape_families.h"
#include "tests/server/server_fixture.h"
#include "tests/support/metrics_scrape.h"

namespace sentencekv {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Not;

class MetricsTest : public ServerFixture {
 protected:
  std::map<std::string, double> Scrape() {
    return ParseExposition(HttpGet(front_end_->metrics_port(), "/metrics"));
  }
};

std::string With(const std::string& name, const std::string& labels = "") {
  return name + "{model_name=\"fake-model\"" +
         (labels.empty() ? "" : "," + labels) + "}";
}

std::string OfPolicy(const std::string& name) {
  return With(name, "policy=\"sentence\"");
}

TEST_F(MetricsTest, CountsWhatTheEngineObserves) {
  metrics_->OnRefused(RefusalReason::kQueueFull);
  metrics_->OnRefused(RefusalReason::kDuplicateId);
  metrics_->OnFirstToken(absl::Milliseconds(30));
  metrics_->OnInterToken(absl::Milliseconds(5));
  metrics_->OnInterToken(absl::Milliseconds(7));
  Finish finish;
  finish.reason = FinishReason::kLength;
  finish.usage = {.prompt_tokens = 100,
                  .cached_tokens = 10,
                  .generated_tokens = 20,
                  .queue_time = absl::Milliseconds(2),
                  .prefill_time = absl::Milliseconds(28),
                  .total_time = absl::Seconds(3)};
  metrics_->OnFinished(finish);
  metrics_->OnStep({.prefill_tokens = 64,
                    .decode_tokens = 3,
                    .sequences = 4,
                    .plan_time = absl::Microseconds(50),
                    .forward_time = absl::Milliseconds(20),
                    .sample_time = absl::Milliseconds(1)},
                   {});
  const std::map<std::string, double> samples = Scrape();
  const std::pair<std::string, double> expected[] = {
      {With("sentencekv_requests_refused_total", "reason=\"queue_full\""), 1},
      {With("sentencekv_requests_refused_total", "reason=\"duplicate_id\""), 1},
      {With("sentencekv_requests_finished_total", "reason=\"length\""), 1},
      {With("sentencekv_requests_finished_total", "reason=\"stop\""), 0},
      {With("sentencekv_cached_tokens_total"), 10},
      {With("sentencekv_time_to_first_token_seconds_bucket", "le=\"0.02\""), 0},
      {With("sentencekv_time_to_first_token_seconds_bucket", "le=\"0.04\""), 1},
      {With("vllm:time_to_first_token_seconds_bucket", "le=\"0.04\""), 1},
      {With("vllm:time_to_first_token_seconds_count"), 1},
      {With("vllm:inter_token_latency_seconds_count"), 2},
      {With("sentencekv_inter_token_latency_seconds_bucket", "le=\"0.006\""),
       1},
      {With("sentencekv_request_seconds_sum"), 3},
      {With("sentencekv_request_prompt_tokens_bucket", "le=\"100\""), 1},
      {With("sentencekv_request_prompt_tokens_bucket", "le=\"50\""), 0},
      {With("sentencekv_step_tokens_sum", "kind=\"prefill\""), 64},
      {With("sentencekv_step_tokens_sum", "kind=\"decode\""), 3},
      {With("sentencekv_step_sequences_sum"), 4},
      {With("sentencekv_step_seconds_count", "phase=\"plan\""), 1},
      {With("sentencekv_step_seconds_count", "phase=\"forward\""), 1},
      {With("sentencekv_step_seconds_count", "phase=\"sample\""), 1},
  };
  for (const auto& [name, value] : expected) {
    ASSERT_THAT(samples, Contains(Key(name)));
    EXPECT_DOUBLE_EQ(samples.at(name), value) << name;
  }
}

TEST_F(MetricsTest, ReadsTheEnginesCountsAtTheScrape) {
  engine_->set_stats(
      {.running = 3,
       .waiting = 4,
       .waiting_tokens = 500,
       .pages_total = 100,
       .pages_free = 75,
       .pages_cached = 30,
       .pages_used = 25,
       .page_tokens = 16,
       .kv_bytes_per_page = 4096,
       .prompt_tokens = 1000,
       .generated_tokens = 2000,
       .preemptions = 2,
       .steps = 77,
       .prefix_query_tokens = 900,
       .prefix_hit_tokens = 640,
       .prefix_evictions = 5,
       .sentence_index = {.sentences = 40, .entries = 3600, .bytes = 250000},
       .reads = {{.policy = "sentence",
                  .totals = {.counts = {.steps = 10,
                                        .heads = 40,
                                        .tokens_attended = 2000,
                                        .sentences_chosen = 400,
                                        .sentences_compared = 300,
                                        .sentences_repeated = 240},
                             .sentences_indexed = 55,
                             .score_seconds = 0.25,
                             .select_seconds = 0.125,
                             .repairs = 7}}}});
  const std::map<std::string, double> samples = Scrape();
  const std::pair<std::string, double> expected[] = {
      {With("sentencekv_requests_running"), 3},
      {With("vllm:num_requests_running"), 3},
      {With("vllm:num_requests_waiting"), 4},
      {With("sentencekv_waiting_tokens"), 500},
      {With("sentencekv_kv_pages", "state=\"free\""), 75},
      {With("sentencekv_kv_pages", "state=\"used\""), 25},
      {With("sentencekv_kv_page_capacity"), 100},
      {With("sentencekv_kv_page_bytes"), 4096},
      {With("vllm:kv_cache_usage_perc"), 0.25},
      {With("vllm:cache_config_info",
            "block_size=\"16\",num_gpu_blocks=\"100\""),
       1},
      {With("sentencekv_prompt_tokens_total"), 1000},
      {With("sentencekv_prefix_cache_pages"), 30},
      {With("sentencekv_prefix_cache_queries_total"), 900},
      {With("sentencekv_prefix_cache_hits_total"), 640},
      {With("sentencekv_prefix_cache_evictions_total"), 5},
      {With("vllm:prefix_cache_queries_total"), 900},
      {With("vllm:prefix_cache_hits_total"), 640},
      {With("sentencekv_generated_tokens_total"), 2000},
      {With("sentencekv_index_sentences"), 40},
      {With("sentencekv_index_entries"), 3600},
      {With("sentencekv_index_bytes"), 250000},
      {OfPolicy("sentencekv_sentences_indexed_total"), 55},
      {OfPolicy("sentencekv_selection_tokens_total"), 10},
      {OfPolicy("sentencekv_selection_attended_tokens_total"), 500},
      {OfPolicy("sentencekv_selection_sentences_total"), 300},
      {OfPolicy("sentencekv_selection_repeated_sentences_total"), 240},
      {OfPolicy("sentencekv_selection_score_seconds_total"), 0.25},
      {OfPolicy("sentencekv_selection_select_seconds_total"), 0.125},
      {OfPolicy("sentencekv_selection_repairs_total"), 7},
      {With("vllm:num_preemptions_total"), 2},
      {With("sentencekv_steps_total"), 77},
  };
  for (const auto& [name, value] : expected) {
    ASSERT_THAT(samples, Contains(Key(name)));
    EXPECT_DOUBLE_EQ(samples.at(name), value) << name;
  }
  // The next scrape sees the next state: nothing is left standing.
  engine_->set_stats({});
  EXPECT_EQ(Scrape().at(With("vllm:num_requests_running")), 0);
}

TEST_F(MetricsTest, TellsWhatTheDeviceHolds) {
  engine_->set_stats({.device = {.frames_total = 48,
                                 .frames_used = 40,
                                 .hits = 7,
                                 .misses = 3,
                                 .chosen_hits = 90,
                                 .chosen_misses = 10,
                                 .evictions = 5,
                                 .bytes_to_device = 8192,
                                 .bytes_to_host = 4096,
                                 .seconds_stalled = 0.125},
                      .graph_steps = {.recorded = 4, .repeated = 500}});
  const std::map<std::string, double> samples = Scrape();
  const std::pair<std::string, double> expected[] = {
      {With("sentencekv_device_frame_capacity"), 48},
      {With("sentencekv_device_frames_used"), 40},
      {With("sentencekv_device_page_hits_total"), 7},
      {With("sentencekv_device_page_misses_total"), 3},
      {With("sentencekv_device_chosen_hits_total"), 90},
      {With("sentencekv_device_chosen_misses_total"), 10},
      {With("sentencekv_device_evictions_total"), 5},
      {With("sentencekv_device_bytes_copied_total", "direction=\"to_device\""),
       8192},
      {With("sentencekv_device_bytes_copied_total", "direction=\"to_host\""),
       4096},
      {With("sentencekv_device_graph_steps_total", "graph=\"captured\""), 4},
      {With("sentencekv_device_graph_steps_total", "graph=\"replayed\""), 500},
      {With("sentencekv_device_copy_stall_seconds_total"), 0.125},
  };
  // Where K and V are used in place there are the same names.
  engine_->set_stats({});
  const std::map<std::string, double> in_place = Scrape();
  for (const auto& [name, value] : expected) {
    ASSERT_THAT(samples, Contains(Key(name)));
    EXPECT_DOUBLE_EQ(samples.at(name), value) << name;
    ASSERT_THAT(in_place, Contains(Key(name)));
    EXPECT_EQ(in_place.at(name), 0) << name;
  }
}

TEST_F(MetricsTest, CountsRpcsByMethodAndCode) {
  AnswerHello();
  ASSERT_TRUE(Generate(TextRequest("hi")).status.ok());
  ASSERT_FALSE(Generate(TextRequest("")).status.ok());
  grpc::ClientContext context;
  v1::GetStatsResponse stats;
  ASSERT_TRUE(stub_->GetStats(&context, {}, &stats).ok());
  // The last of them is counted just after the client has its answer.
  const std::string ok =
      With("sentencekv_rpcs_total", "code=\"OK\",method=\"Generate\"");
  const std::string invalid = With(
      "sentencekv_rpcs_total", "code=\"INVALID_ARGUMENT\",method=\"Generate\"");
  const absl::Time deadline = absl::Now() + kPatience;
  std::map<std::string, double> samples;
  do {
    samples = Scrape();
  } while ((samples.count(ok) == 0 || samples.count(invalid) == 0) &&
           absl::Now() < deadline);
  EXPECT_EQ(samples.at(ok), 1);
  EXPECT_EQ(samples.at(invalid), 1);
  EXPECT_EQ(samples.at(With("sentencekv_rpcs_total",
                            "code=\"OK\",method=\"GetStats\"")),
            1);
}

TEST_F(MetricsTest, TellsOfBuildModelAndProcess) {
  const std::map<std::string, double> samples = Scrape();
  EXPECT_THAT(samples, Contains(Key("sentencekv_build_info{version=\"" +
                                    std::string(kVersion) + "\"}")));
  EXPECT_GT(samples.at("sentencekv_process_resident_bytes"), 1 << 20);
  EXPECT_GT(samples.at("sentencekv_process_threads"), 1);
  EXPECT_GE(samples.at("sentencekv_process_uptime_seconds"), 0);
  int models = 0;
  for (const auto& [name, value] : samples) {
    if (name.rfind("sentencekv_model_info{", 0) == 0) {
      ++models;
      EXPECT_THAT(name, HasSubstr("model_name=\"fake-model\""));
      EXPECT_THAT(name, HasSubstr("backend=\"fake backend\""));
    }
    EXPECT_THAT(name, Not(HasSubstr("request_id")));
  }
  EXPECT_EQ(models, 1);
}

TEST_F(MetricsTest, EveryFamilyAppearsOnceWithHelpAndType) {
  std::map<std::string, int> types;
  std::istringstream lines(HttpGet(front_end_->metrics_port(), "/metrics"));
  std::string line;
  while (std::getline(lines, line)) {
    if (line.rfind("# TYPE ", 0) == 0) ++types[line.substr(7)];
  }
  EXPECT_GT(types.size(), 30u);
  for (const auto& [name, count] : types) EXPECT_EQ(count, 1) << name;
}

TEST_F(MetricsTest, OtherPathsAreNotFound) {
  EXPECT_THAT(HttpGet(front_end_->metrics_port(), "/"), HasSubstr("404"));
}

TEST_F(MetricsTest, APortInUseIsUnavailable) {
  const ListenAddress taken = {.host = "127.0.0.1",
                               .port = front_end_->metrics_port()};
  EXPECT_TRUE(
      absl::IsUnavailable(MetricsExposer::Start(taken, metrics_).status()));
}

TEST_F(MetricsTest, LocalhostIsAnAddress) {
  const auto exposer =
      MetricsExposer::Start({.host = "localhost", .port = 0}, metrics_);
  ASSERT_TRUE(exposer.ok()) << exposer.status();
  EXPECT_THAT(HttpGet((*exposer)->port(), "/metrics"), HasSubstr("200 OK"));
}

TEST(ScrapeFamilies, AnEmptyPoolIsNotFull) {
  MetricFamilies families;
  AppendEngineFamilies({}, "m", &families);
  for (const auto& family : families) {
    if (family.name == "sentencekv_kv_usage_ratio") {
      EXPECT_EQ(family.metric.at(0).gauge.value, 0);
    }
  }
}

}  // namespace
}  // namespace sentencekv
