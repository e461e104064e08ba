#include "kernels/cpu/weight_packing.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/block_formats.h"
#include "kernels/check.h"
#include "kernels/cpu/weight_layout.h"
#include "kernels/half.h"

namespace sentencekv {
namespace {

template <typename T>
void Store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof(value));
}

template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// A row of a part and where it goes: lane 0..15 of a panel.
struct RowToPack {
  const std::byte* data;
  SourceType type;
  int64_t cols;
  int64_t lane;
};

std::vector<QuantGroup> DecodeRow(const RowToPack& row) {
  std::vector<QuantGroup> groups(static_cast<size_t>(row.cols / kBlockColumns));
  DecodeGroups(row.type, row.data, row.cols, groups.data());
  return groups;
}

void PackQ4Row(const RowToPack& row, std::byte* panel) {
  for (const QuantGroup& group : DecodeRow(row)) {
    // Q4_0 counts from -8: the same values with a minimum of -8 scales.
    const int8_t offset = row.type == SourceType::kQ4_0 ? 8 : 0;
    const float minimum = group.minimum - offset * group.scale[0];
    Store(panel + 2 * row.lane, F32ToF16(group.scale[0]));
    Store(panel + 32 + 2 * row.lane, F32ToF16(minimum));
    for (int64_t i = 0; i < kBlockColumns / 2; ++i) {
      const int low = group.q[i] + offset;
      const int high = group.q[i + 16] + offset;
      panel[64 + i / 4 * 64 + row.lane * 4 + i % 4] =
          static_cast<std::byte>(low | high << 4);
    }
    panel += kQ4BlockBytes;
  }
}

void StoreQ8Block(uint16_t scale, const int8_t* q, int64_t lane,
                  std::byte* block) {
  Store(block + 2 * lane, scale);
  for (int64_t j = 0; j < 8; ++j) {
    std::memcpy(block + 32 + j * 64 + lane * 4, q + 4 * j, 4);
  }
}

// Rounds 32 values to f16 scale and 8-bit integers.
void StoreAsQ8(const float* values, int64_t lane, std::byte* block) {
  float largest = 0;
  for (int64_t i = 0; i < kBlockColumns; ++i) {
    largest = std::max(largest, std::fabs(values[i]));
  }
  // Values beyond f16's range are cut to it; a hostile file could hold them.
  const uint16_t half = F32ToF16(std::min(largest / 127.0f, 65504.0f));
  const float scale = F16ToF32(half);
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  int8_t q[kBlockColumns];
  for (int64_t i = 0; i < kBlockColumns; ++i) {
    const float level = std::nearbyint(values[i] * inverse);
    // The comparisons send NaN to -127.
    q[i] = static_cast<int8_t>(level > -127.0f ? std::min(level, 127.0f)
                                               : -127.0f);
  }
  StoreQ8Block(half, q, lane, block);
}

void PackQ8Row(const RowToPack& row, std::byte* panel) {
  if (row.type == SourceType::kQ8_0 || row.type == SourceType::kQ5_0) {
    for (const QuantGroup& group : DecodeRow(row)) {
      StoreQ8Block(F32ToF16(group.scale[0]), group.q, row.lane, panel);
      panel += kQ8BlockBytes;
    }
    return;
  }
  std::vector<float> values(static_cast<size_t>(row.cols));
  DequantizeRow(row.type, row.data, row.cols, values.data());
  for (int64_t b = 0; b < row.cols / kBlockColumns; ++b) {
    StoreAsQ8(values.data() + b * kBlockColumns, row.lane,
              panel + b * kQ8BlockBytes);
  }
}

void PackFloatRow(const RowToPack& row, WeightFormat format, std::byte* panel) {
  std::vector<float> values(static_cast<size_t>(row.cols));
  DequantizeRow(row.type, row.data, row.cols, values.data());
  for (int64_t k = 0; k < row.cols; ++k) {
    const float value = values[static_cast<size_t>(k)];
    const int64_t index = k * kPanelRows + row.lane;
    if (format == WeightFormat::kF32) {
      Store(panel + 4 * index, value);
    } else {
      Store(panel + 2 * index,
            format == WeightFormat::kF16 ? F32ToF16(value) : F32ToBf16(value));
    }
  }
}

void PackRow(const RowToPack& row, WeightFormat format, std::byte* panel) {
  switch (format) {
    case WeightFormat::kQ4:
      return PackQ4Row(row, panel);
    case WeightFormat::kQ8:
      return PackQ8Row(row, panel);
    case WeightFormat::kF32:
    case WeightFormat::kF16:
    case WeightFormat::kBF16:
      return PackFloatRow(row, format, panel);
  }
}

}  // namespace

void PackPanel(std::span<const MatrixSource> parts, WeightFormat format,
               int64_t panel, std::byte* out) {
  // Rows of the stacked matrix that this panel holds, and of the parts so far.
  const int64_t begin = panel * kPanelRows;
  const int64_t end = begin + kPanelRows;
  int64_t part_begin = 0;
  for (const MatrixSource& part : parts) {
    SKV_DCHECK(format != WeightFormat::kQ4 ||
               PackedFormat(part.type) == WeightFormat::kQ4);
    const int64_t part_end = part_begin + part.rows;
    const int64_t row_bytes =
        part.cols / BlockElements(part.type) * BlockBytes(part.type);
    for (int64_t row = std::max(begin, part_begin);
         row < std::min(end, part_end); ++row) {
      PackRow({part.data + (row - part_begin) * row_bytes, part.type, part.cols,
               row - begin},
              format, out);
    }
    part_begin = part_end;
  }
}

void UnpackRow(const WeightMatrix& matrix, int64_t row, float* out) {
  const int64_t lane = row % kPanelRows;
  const std::byte* panel =
      matrix.data.as<const std::byte>() +
      row / kPanelRows * PanelBytes(matrix.format, matrix.cols);
  switch (matrix.format) {
    case WeightFormat::kQ4:
      for (int64_t k = 0; k < matrix.cols; k += kBlockColumns) {
        const std::byte* block = panel + k / kBlockColumns * kQ4BlockBytes;
        const float scale = F16ToF32(Load<uint16_t>(block + 2 * lane));
        const float minimum = F16ToF32(Load<uint16_t>(block + 32 + 2 * lane));
        for (int64_t i = 0; i < kBlockColumns / 2; ++i) {
          const auto pair =
              static_cast<int>(block[64 + i / 4 * 64 + lane * 4 + i % 4]);
          out[k + i] = scale * static_cast<float>(pair & 15) + minimum;
          out[k + i + 16] = scale * static_cast<float>(pair >> 4) + minimum;
        }
      }
      return;
    case WeightFormat::kQ8:
      for (int64_t k = 0; k < matrix.cols; k += kBlockColumns) {
        const std::byte* block = panel + k / kBlockColumns * kQ8BlockBytes;
        const float scale = F16ToF32(Load<uint16_t>(block + 2 * lane));
        for (int64_t i = 0; i < kBlockColumns; ++i) {
          out[k + i] = scale * static_cast<float>(static_cast<int8_t>(
                                   block[32 + i / 4 * 64 + lane * 4 + i % 4]));
        }
      }
      return;
    case WeightFormat::kF32:
      for (int64_t k = 0; k < matrix.cols; ++k) {
        out[k] = Load<float>(panel + 4 * (k * kPanelRows + lane));
      }
      return;
    case WeightFormat::kF16:
      for (int64_t k = 0; k < matrix.cols; ++k) {
        out[k] = F16ToF32(Load<uint16_t>(panel + 2 * (k * kPanelRows + lane)));
      }
      return;
    case WeightFormat::kBF16:
      for (int64_t k = 0; k < matrix.cols; ++k) {
        out[k] = Bf16ToF32(Load<uint16_t>(panel + 2 * (k * kPanelRows + lane)));
      }
      return;
  }
}

}  // namespace sentencekv
