#include "kernels/backend.h"

#include <algorithm>

#include "fmt/format.h"
#include "kernels/argument_check.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace sentencekv {
namespace {

template <typename... Args>
absl::Status Invalid(fmt::format_string<Args...> format, Args&&... args) {
  return absl::InvalidArgumentError(
      fmt::format(format, std::forward<Args>(args)...));
}

// The more precise of two packed formats; f16 and bf16 each hold what the
// other cannot, so together they need f32.
WeightFormat MorePrecise(WeightFormat a, WeightFormat b) {
  const auto rank = [](WeightFormat format) {
    switch (format) {
      case WeightFormat::kQ4:
        return 0;
      case WeightFormat::kQ8:
        return 1;
      case WeightFormat::kF16:
      case WeightFormat::kBF16:
        return 2;
      case WeightFormat::kF32:
        return 3;
    }
    return 3;
  };
  if (a != b && rank(a) == 2 && rank(b) == 2) return WeightFormat::kF32;
  return rank(a) >= rank(b) ? a : b;
}

absl::Status CheckPart(const MatrixSource& part, int64_t cols) {
  ArgumentCheck check("PackWeights");
  check.NotNull("data", part.data)
      .InRange("type", static_cast<int64_t>(part.type), 0,
               static_cast<int64_t>(SourceType::kQ6_K))
      .Positive("rows", part.rows)
      .Positive("cols", part.cols);
  if (!check.ok()) return check.status();
  if (part.cols != cols) {
    return Invalid("PackWeights: cols of the parts differ: {} and {}", cols,
                   part.cols);
  }
  const int64_t block = BlockElements(part.type);
  if (part.cols % block != 0) {
    return Invalid(
        "PackWeights: cols {} is not a multiple of {}, a block of {}",
        part.cols, block, Name(part.type));
  }
  return absl::OkStatus();
}

absl::Status NoOwnMemory(const char* method) {
  return absl::FailedPreconditionError(
      fmt::format("{}: the device has no memory of its own", method));
}

}  // namespace

absl::Status Backend::Transfer(DeviceStream, std::span<const CopyRun>) {
  return NoOwnMemory("Transfer");
}

absl::StatusOr<DeviceEvent> Backend::Record(DeviceStream) {
  return NoOwnMemory("Record");
}

absl::Status Backend::Wait(DeviceStream, const DeviceEvent&) {
  return NoOwnMemory("Wait");
}

absl::StatusOr<WeightMatrix> Backend::PackWeights(
    std::span<const MatrixSource> parts) {
  if (parts.empty()) return Invalid("PackWeights: no parts");
  int64_t rows = 0;
  for (const MatrixSource& part : parts) {
    SKV_RETURN_IF_ERROR(CheckPart(part, parts[0].cols));
    rows += part.rows;
  }
  if (rows > kMaxDimension) {
    return Invalid("PackWeights: rows of all parts must be at most {}, got {}",
                   kMaxDimension, rows);
  }
  WeightFormat format = PackedFormat(parts[0].type);
  for (const MatrixSource& part : parts) {
    format = MorePrecise(format, PackedFormat(part.type));
  }
  return DoPackWeights(parts, format);
}

absl::Status Backend::Embed(const EmbedParams& params) {
  ArgumentCheck check("Embed");
  if (!check.Count("num_tokens", params.num_tokens).ok()) return check.status();
  if (params.num_tokens == 0) return absl::OkStatus();
  check.Matrix("table", params.table)
      .NotNull("tokens", params.tokens)
      .NotNull("out", params.out);
  for (int64_t i = 0; check.ok() && i < params.num_tokens; ++i) {
    check.InRange("token", params.tokens[i], 0, params.table->rows - 1);
  }
  return check.ok() ? DoEmbed(params) : check.status();
}

absl::Status Backend::RmsNorm(const RmsNormParams& params) {
  ArgumentCheck check("RmsNorm");
  if (!check.Count("num_rows", params.num_rows).ok()) return check.status();
  if (params.num_rows == 0) return absl::OkStatus();
  check.Positive("width", params.width)
      .NotNull("x", params.x)
      .NotNull("weight", params.weight)
      .NotNull("out", params.out)
      .That(params.epsilon >= 0, "epsilon must be at least 0");
  return check.ok() ? DoRmsNorm(params) : check.status();
}

absl::Status Backend::MatMul(const MatMulParams& params) {
  ArgumentCheck check("MatMul");
  if (!check.Count("num_rows", params.num_rows).ok()) return check.status();
  if (params.num_rows == 0) return absl::OkStatus();
  check.Matrix("weight", params.weight)
      .NotNull("x", params.x)
      .NotNull("out", params.out);
  return check.ok() ? DoMatMul(params) : check.status();
}

absl::Status Backend::SwiGlu(const SwiGluParams& params) {
  ArgumentCheck check("SwiGlu");
  if (!check.Count("num_rows", params.num_rows).ok()) return check.status();
  if (params.num_rows == 0) return absl::OkStatus();
  check.Positive("width", params.width)
      .NotNull("gate_up", params.gate_up)
      .NotNull("out", params.out);
  return check.ok() ? DoSwiGlu(params) : check.status();
}

absl::Status Backend::GatherRows(const GatherRowsParams& params) {
  ArgumentCheck check("GatherRows");
  if (!check.Count("num_rows", params.num_rows).ok()) return check.status();
  if (params.num_rows == 0) return absl::OkStatus();
  check.Positive("width", params.width)
      .NotNull("x", params.x)
      .NotNull("rows", params.rows)
      .NotNull("out", params.out);
  for (int64_t i = 0; check.ok() && i < params.num_rows; ++i) {
    check.Count("row", params.rows[i]);
  }
  return check.ok() ? DoGatherRows(params) : check.status();
}

absl::Status Backend::RopeTable(const RopeTableParams& params) {
  ArgumentCheck check("RopeTable");
  if (!check.Count("num_tokens", params.num_tokens).ok()) return check.status();
  if (params.num_tokens == 0) return absl::OkStatus();
  check.Positive("half_dims", params.half_dims)
      .NotNull("positions", params.positions)
      .NotNull("inverse_frequency", params.inverse_frequency)
      .NotNull("cos_sin", params.cos_sin);
  for (int64_t i = 0; check.ok() && i < params.num_tokens; ++i) {
    check.Count("position", params.positions[i]);
  }
  return check.ok() ? DoRopeTable(params) : check.status();
}

absl::Status Backend::RopeStoreKv(const RopeStoreKvParams& params) {
  ArgumentCheck check("RopeStoreKv");
  if (!check.Count("num_sequences", params.num_sequences).ok()) {
    return check.status();
  }
  if (params.num_sequences == 0) return absl::OkStatus();
  const KvLayout& layout = params.kv.layout;
  check.NotNull("qkv", params.qkv)
      .NotNull("cos_sin", params.cos_sin)
      .NotNull("kv.base", params.kv.base)
      .NotNull("sequences", params.sequences)
      .Layout(layout)
      .Head(layout.head_dim)
      .Positive("num_heads", params.num_heads)
      .InRange("rotary_dims", params.rotary_dims, 2, layout.head_dim)
      .That(params.rotary_dims % 2 == 0, "rotary_dims must be even")
      .That(params.layout <= RopeLayout::kHalves, "unknown rope layout");
  if (!check.ok()) return check.status();
  check.Sequences(layout, params.sequences, params.num_sequences,
                  KvPagesUsed::kOfRows);
  return check.ok() ? DoRopeStoreKv(params) : check.status();
}

absl::Status Backend::Attention(const AttentionParams& params) {
  ArgumentCheck check("Attention");
  if (!check.Count("num_sequences", params.num_sequences).ok()) {
    return check.status();
  }
  if (params.num_sequences == 0) return absl::OkStatus();
  const KvLayout& layout = params.kv.layout;
  check.NotNull("qkv", params.qkv)
      .NotNull("out", params.out)
      .NotNull("kv.base", params.kv.base)
      .NotNull("sequences", params.sequences)
      .Layout(layout)
      .Head(layout.head_dim)
      .Positive("num_heads", params.num_heads);
  if (!check.ok()) return check.status();
  check
      .That(params.num_heads % layout.num_kv_heads == 0,
            "num_heads must be a multiple of num_kv_heads")
      .Sequences(layout, params.sequences, params.num_sequences,
                 KvPagesUsed::kAll);
  return check.ok() ? DoAttention(params) : check.status();
}

absl::Status Backend::SelectedAttention(const SelectedAttentionParams& params) {
  ArgumentCheck check("SelectedAttention");
  if (!check.Count("num_selections", params.num_selections).ok()) {
    return check.status();
  }
  if (params.num_selections == 0) return absl::OkStatus();
  const KvLayout& layout = params.kv.layout;
  check.NotNull("qkv", params.qkv)
      .NotNull("out", params.out)
      .NotNull("kv.base", params.kv.base)
      .NotNull("selections", params.selections)
      .Layout(layout)
      .Head(layout.head_dim)
      .Positive("num_heads", params.num_heads);
  if (!check.ok()) return check.status();
  check.That(params.num_heads % layout.num_kv_heads == 0,
             "num_heads must be a multiple of num_kv_heads");
  for (int64_t i = 0; check.ok() && i < params.num_selections; ++i) {
    check.Selection(layout, params.selections[i]);
  }
  return check.ok() ? DoSelectedAttention(params) : check.status();
}

absl::Status Backend::CopyPages(const CopyPagesParams& params) {
  ArgumentCheck check("CopyPages");
  if (!check.Count("num_pages", params.num_pages).ok()) return check.status();
  if (params.num_pages == 0) return absl::OkStatus();
  check.Layout(params.layout)
      .NotNull("pool", params.pool)
      .NotNull("source", params.source)
      .NotNull("destination", params.destination);
  const int64_t last_page = params.layout.num_pages - 1;
  for (int64_t i = 0; check.ok() && i < params.num_pages; ++i) {
    check.InRange("source page", params.source[i], 0, last_page)
        .InRange("destination page", params.destination[i], 0, last_page);
  }
  return check.ok() ? DoCopyPages(params) : check.status();
}

absl::Status Backend::CopyRows(const CopyRowsParams& params) {
  ArgumentCheck check("CopyRows");
  if (!check.Count("num_rows", params.num_rows)
           .Count("row_bytes", params.row_bytes)
           .ok()) {
    return check.status();
  }
  if (params.num_rows == 0 || params.row_bytes == 0) return absl::OkStatus();
  check.NotNull("source", params.source)
      .NotNull("destination", params.destination)
      .InRange("source_stride", params.source_stride, params.row_bytes,
               kMaxDimension)
      .InRange("destination_stride", params.destination_stride,
               params.row_bytes, kMaxDimension);
  return check.ok() ? DoCopyRows(params) : check.status();
}

}  // namespace sentencekv
