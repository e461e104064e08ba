// Speed of attention, as shares of what the machine can do in the same moment.
//
// Prefill is compared with the machine's multiply-add peak, decoding with its
// speed of reading memory. Kernel and yardstick take turns in one process, and
// the median of their ratios is printed: on a shared machine the clock and the
// neighbours change from second to second, the ratio does not.
//
//   attention_bench [level] [threads] [part of a name]
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sentencekv {
namespace {

constexpr int kRounds = 15;

// What `Seconds` reads. With one thread it is that thread's processor time,
// which does not run while a neighbour has the core.
clockid_t clock_id = CLOCK_MONOTONIC;

double Now() {
  timespec now;
  clock_gettime(clock_id, &now);
  return static_cast<double>(now.tv_sec) +
         static_cast<double>(now.tv_nsec) * 1e-9;
}

double Seconds(const std::function<void()>& work) {
  const double begin = Now();
  work();
  return Now() - begin;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One thread's multiply-adds in registers; returns floating-point operations.
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) double MultiplyAdds() {
  constexpr int kCount = 400'000;
  const __m256 x = _mm256_set1_ps(0.999f);
  __m256 a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x;
  for (int n = 0; n < kCount; ++n) {
    a = _mm256_fmadd_ps(a, x, x);
    b = _mm256_fmadd_ps(b, x, x);
    c = _mm256_fmadd_ps(c, x, x);
    d = _mm256_fmadd_ps(d, x, x);
    e = _mm256_fmadd_ps(e, x, x);
    f = _mm256_fmadd_ps(f, x, x);
    g = _mm256_fmadd_ps(g, x, x);
    h = _mm256_fmadd_ps(h, x, x);
    i = _mm256_fmadd_ps(i, x, x);
    j = _mm256_fmadd_ps(j, x, x);
    // Keeps the compiler from seeing through the loop.
    __asm__ volatile(""
                     : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e), "+x"(f),
                       "+x"(g), "+x"(h), "+x"(i), "+x"(j));
  }
  return 2.0 * 8 * 10 * kCount;
}
#else
double MultiplyAdds() {
  constexpr int kCount = 400'000;
  volatile float result = 0;
  float sum = 0;
  for (int i = 0; i < kCount; ++i) sum = sum * 0.999f + 0.5f;
  result = sum;
  return 2.0 * kCount + result * 0;
}
#endif

double PeakFlops() {
  double operations = 0;
  const double seconds = Seconds([&] { operations = MultiplyAdds(); });
  return operations / seconds;
}

// Bytes per second of one thread that reads a block once, in order.
double ReadRate(const std::byte* data, int64_t size_bytes) {
  uint64_t sum = 0;
  const double seconds = Seconds([&] {
    for (int64_t i = 0; i < size_bytes; i += 64) {
      uint64_t word;
      __builtin_memcpy(&word, data + i, sizeof(word));
      sum += word;
    }
  });
  volatile uint64_t sink = sum;
  (void)sink;
  return static_cast<double>(size_bytes) / seconds;
}

struct Shape {
  const char* name;
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t position;
  int64_t num_rows;
  int64_t num_layers;  // distinct memory for each
  // Sequences beside it, each with one row at that position.
  int64_t decode_rows = 0;
  int64_t decode_position = 0;
};

// Buffers of one shape, and the operation on them.
class Bench {
 public:
  Bench(Backend& backend, const Shape& shape) : backend_(backend) {
    const auto pages_of = [](int64_t tokens) {
      return (tokens + kPageTokens - 1) / kPageTokens;
    };
    const int64_t chunk_pages = pages_of(shape.position + shape.num_rows);
    const int64_t decode_pages = pages_of(shape.decode_position + 1);
    const int64_t num_pages = chunk_pages + shape.decode_rows * decode_pages;
    const int64_t num_rows = shape.num_rows + shape.decode_rows;
    layout_ = {.num_layers = shape.num_layers,
               .num_pages = num_pages,
               .num_kv_heads = shape.num_kv_heads,
               .head_dim = shape.head_dim};
    pool_ = backend.Allocate(layout_.total_bytes()).value();
    // f16 values in 1..2, different from place to place.
    auto* halves = pool_.as<uint16_t>();
    for (int64_t i = 0; i < layout_.total_bytes() / 2; ++i) {
      halves[i] = static_cast<uint16_t>(0x3c00 + i * 40503 % 1024);
    }
    const int64_t width =
        (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
    qkv_.assign(num_rows * width, 0.01f);
    for (size_t i = 0; i < qkv_.size(); ++i) {
      qkv_[i] *= static_cast<float>(i * 7919 % 200) - 100.0f;
    }
    out_.resize(num_rows * shape.num_heads * shape.head_dim);
    pages_.resize(num_pages);
    for (int64_t i = 0; i < num_pages; ++i) {
      pages_[i] = static_cast<int32_t>(i);
    }
    for (int64_t i = 0; i < shape.decode_rows; ++i) {
      sequences_.push_back({i, 1, shape.decode_position,
                            pages_.data() + chunk_pages + i * decode_pages});
    }
    if (shape.num_rows > 0) {
      sequences_.push_back(
          {shape.decode_rows, shape.num_rows, shape.position, pages_.data()});
    }
    params_.qkv = qkv_.data();
    params_.out = out_.data();
    params_.sequences = sequences_.data();
    params_.num_sequences = static_cast<int64_t>(sequences_.size());
    params_.num_heads = shape.num_heads;
    params_.scale = 0.125f;
    for (const KvSequence& sequence : sequences_) {
      for (int64_t r = 0; r < sequence.num_rows; ++r) {
        operations_ +=
            4.0 * static_cast<double>(shape.num_heads * shape.head_dim *
                                      (sequence.position + r + 1));
      }
    }
  }

  // All layers.
  void Run() {
    for (int64_t layer = 0; layer < layout_.num_layers; ++layer) {
      params_.kv = {pool_.as<std::byte>() + layer * layout_.layer_bytes(),
                    layout_};
      if (!backend_.Attention(params_).ok()) std::abort();
    }
  }

  double operations() const {
    return operations_ * static_cast<double>(layout_.num_layers);
  }
  const std::byte* pool() const { return pool_.as<std::byte>(); }
  int64_t pool_bytes() const { return layout_.total_bytes(); }

 private:
  Backend& backend_;
  KvLayout layout_;
  Buffer pool_;
  std::vector<float> qkv_;
  std::vector<float> out_;
  std::vector<int32_t> pages_;
  std::vector<KvSequence> sequences_;
  AttentionParams params_;
  double operations_ = 0;  // of one layer
};

void RunPrefill(Backend& backend, const Shape& shape) {
  Bench bench(backend, shape);
  bench.Run();
  std::vector<double> ratios;
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    const double before = PeakFlops();
    const double seconds = Seconds([&] { bench.Run(); });
    const double peak = (before + PeakFlops()) / 2;
    times.push_back(seconds);
    ratios.push_back(bench.operations() / seconds / peak);
  }
  std::printf("%-34s %9.2f ms %7.1f GFLOP/s  %5.1f %% of one core's peak\n",
              shape.name, Median(times) * 1e3,
              bench.operations() / Median(times) * 1e-9, Median(ratios) * 100);
}

void RunDecode(Backend& backend, const Shape& shape) {
  Bench bench(backend, shape);
  bench.Run();
  std::vector<double> ratios;
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    const double rate = ReadRate(bench.pool(), bench.pool_bytes());
    const double seconds = Seconds([&] { bench.Run(); });
    times.push_back(seconds);
    ratios.push_back(static_cast<double>(bench.pool_bytes()) / seconds / rate);
  }
  std::printf("%-34s %9.2f ms %7.1f GB/s     %5.1f %% of one core's reading\n",
              shape.name, Median(times) * 1e3,
              static_cast<double>(bench.pool_bytes()) / Median(times) * 1e-9,
              Median(ratios) * 100);
}

constexpr Shape kPrefills[] = {
    {"prefill 512", 9, 3, 64, 0, 512, 1},
    {"prefill rows 3488..3999", 9, 3, 64, 3488, 512, 1},
    {"prefill rows 3488..3999, 32/8 x128", 32, 8, 128, 3488, 512, 1},
    {"prefill rows 1488..1999, no groups", 8, 8, 64, 1488, 512, 1},
    {"chunk of 4 at 7,992, 30 layers", 9, 3, 64, 7992, 4, 30},
    {"chunk of 6 at 7,992, 30 layers", 9, 3, 64, 7992, 6, 30},
    {"chunk of 8 at 7,992, 30 layers", 9, 3, 64, 7992, 8, 30},
    {"16 decode rows at 1,100", 9, 3, 64, 0, 0, 30, 16, 1100},
    {"chunk of 4 at 7,992 beside 16 rows", 9, 3, 64, 7992, 4, 30, 16, 1100},
    {"chunk of 8 at 7,992 beside 16 rows", 9, 3, 64, 7992, 8, 30, 16, 1100},
    {"chunk of 16 at 7,984, 30 layers", 9, 3, 64, 7984, 16, 30},
    {"chunk of 32 at 7,968, 30 layers", 9, 3, 64, 7968, 32, 30},
};
constexpr Shape kDecodes[] = {
    {"decode at 200, 30 layers", 9, 3, 64, 199, 1, 30},
    {"decode at 8,000, 30 layers", 9, 3, 64, 7999, 1, 30},
    {"decode at 4,000, 4 layers, 32/8 x128", 32, 8, 128, 3999, 1, 4},
};

int Main(int argc, char** argv) {
  const auto level = ParseCpuLevel(argc > 1 ? argv[1] : "auto");
  if (!level.ok()) {
    std::fprintf(stderr, "%s\n", level.status().ToString().c_str());
    return 2;
  }
  CpuBackendOptions options;
  options.level = *level;
  options.num_threads = argc > 2 ? std::atoi(argv[2]) : 1;
  if (options.num_threads == 1) clock_id = CLOCK_THREAD_CPUTIME_ID;
  const auto backend = MakeCpuBackend(options);
  if (!backend.ok()) {
    std::fprintf(stderr, "%s\n", backend.status().ToString().c_str());
    return 2;
  }
  std::printf("%s\n", (*backend)->description().c_str());
  const std::string wanted = argc > 3 ? argv[3] : "";
  const auto is_wanted = [&](const Shape& shape) {
    return std::string(shape.name).find(wanted) != std::string::npos;
  };
  for (const Shape& shape : kPrefills) {
    if (is_wanted(shape)) RunPrefill(**backend, shape);
  }
  for (const Shape& shape : kDecodes) {
    if (is_wanted(shape)) RunDecode(**backend, shape);
  }
  return 0;
}

}  // namespace
}  // namespace sentencekv

int main(int argc, char** argv) { return sentencekv::Main(argc, argv); }
