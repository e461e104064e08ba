#include "kernels/block_formats.h"

#include <cstring>

#include "kernels/check.h"
#include "kernels/half.h"

namespace sentencekv {
namespace {

// Reads a little-endian integer (every machine we run on is little-endian).
template <typename T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

float LoadF16(const std::byte* from) { return F16ToF32(Load<uint16_t>(from)); }

uint8_t LoadByte(const std::byte* from) { return static_cast<uint8_t>(*from); }

void SetScale(QuantGroup& group, float scale, float minimum) {
  group.scale[0] = group.scale[1] = scale;
  group.minimum = minimum;
}

// 16 bytes of nibbles: the low ones are elements 0..15, the high ones 16..31;
// bit i of fifth_bits is bit 4 of element i.
void UnpackNibbles(const std::byte* nibbles, uint32_t fifth_bits, int offset,
                   int8_t* q) {
  for (int i = 0; i < 16; ++i) {
    const int byte = LoadByte(nibbles + i);
    const int low = (byte & 15) | ((fifth_bits >> i & 1) << 4);
    const int high = (byte >> 4) | ((fifth_bits >> (i + 16) & 1) << 4);
    q[i] = static_cast<int8_t>(low + offset);
    q[i + 16] = static_cast<int8_t>(high + offset);
  }
}

// { f16 d; s8 q[32] }
void DecodeQ8_0(const std::byte* block, QuantGroup* groups) {
  SetScale(*groups, LoadF16(block), 0);
  std::memcpy(groups->q, block + 2, sizeof(groups->q));
}

// { f16 d; u8 nibbles[16] }, offset by 8
void DecodeQ4_0(const std::byte* block, QuantGroup* groups) {
  SetScale(*groups, LoadF16(block), 0);
  UnpackNibbles(block + 2, 0, -8, groups->q);
}

// { f16 d; f16 m; u8 nibbles[16] }
void DecodeQ4_1(const std::byte* block, QuantGroup* groups) {
  SetScale(*groups, LoadF16(block), LoadF16(block + 2));
  UnpackNibbles(block + 4, 0, 0, groups->q);
}

// { f16 d; u32 fifth bits; u8 nibbles[16] }, offset by 16
void DecodeQ5_0(const std::byte* block, QuantGroup* groups) {
  SetScale(*groups, LoadF16(block), 0);
  UnpackNibbles(block + 6, Load<uint32_t>(block + 2), -16, groups->q);
}

// { f16 d; f16 m; u32 fifth bits; u8 nibbles[16] }
void DecodeQ5_1(const std::byte* block, QuantGroup* groups) {
  SetScale(*groups, LoadF16(block), LoadF16(block + 2));
  UnpackNibbles(block + 8, Load<uint32_t>(block + 4), 0, groups->q);
}

// Scale and minimum of each of the 8 groups of Q4_K and Q5_K, 6 bits each in
// 12 bytes: bytes 0..3 and 4..7 hold those of groups 0..3 in their lower six
// bits; bytes 8..11 the lower four of groups 4..7 (scale low, minimum high),
// whose upper two are the upper two of bytes 0..3 and 4..7.
void SetKScales(const std::byte* block, QuantGroup* groups) {
  const float d = LoadF16(block);
  const float d_minimum = LoadF16(block + 2);
  const std::byte* packed = block + 4;
  for (int i = 0; i < 4; ++i) {
    const int scales = LoadByte(packed + i);
    const int minima = LoadByte(packed + 4 + i);
    const int lower = LoadByte(packed + 8 + i);
    SetScale(groups[i], d * static_cast<float>(scales & 63),
             -(d_minimum * static_cast<float>(minima & 63)));
    SetScale(
        groups[i + 4],
        d * static_cast<float>((lower & 15) | (scales >> 6 << 4)),
        -(d_minimum * static_cast<float>((lower >> 4) | (minima >> 6 << 4))));
  }
}

// 128 bytes of nibbles: each 32 bytes are two groups, low nibbles first. Bit g
// of fifth_bits[i] is bit 4 of element i of group g; null when there is none.
void UnpackKNibbles(const std::byte* nibbles, const std::byte* fifth_bits,
                    QuantGroup* groups) {
  for (int g = 0; g < 8; ++g) {
    const std::byte* bytes = nibbles + g / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const int nibble = LoadByte(bytes + i) >> (g % 2 * 4) & 15;
      const int fifth =
          fifth_bits == nullptr ? 0 : LoadByte(fifth_bits + i) >> g & 1;
      groups[g].q[i] = static_cast<int8_t>(nibble | fifth << 4);
    }
  }
}

// { f16 d; f16 d_minimum; u8 scales[12]; u8 nibbles[128] }
void DecodeQ4_K(const std::byte* block, QuantGroup* groups) {
  SetKScales(block, groups);
  UnpackKNibbles(block + 16, nullptr, groups);
}

// { f16 d; f16 d_minimum; u8 scales[12]; u8 fifth bits[32]; u8 nibbles[128] }
void DecodeQ5_K(const std::byte* block, QuantGroup* groups) {
  SetKScales(block, groups);
  UnpackKNibbles(block + 48, block + 16, groups);
}

// { u8 nibbles[128]; u8 upper[64]; s8 scales[16]; f16 d }, offset by 32, one
// scale per 16 elements. Each half of the block, 128 elements, has 64 bytes of
// nibbles (elements 0..63 low, 64..127 high) and 32 bytes of upper bits (two
// for each of its four groups, the first lowest).
void DecodeQ6_K(const std::byte* block, QuantGroup* groups) {
  const float d = LoadF16(block + 208);
  for (int g = 0; g < 8; ++g) {
    const int half = g / 4;
    const int quarter = g % 4;
    const std::byte* nibbles = block + half * 64 + quarter % 2 * 32;
    const std::byte* upper = block + 128 + half * 32;
    const std::byte* scales = block + 192 + g * 2;
    QuantGroup& group = groups[g];
    for (int i = 0; i < 2; ++i) {
      group.scale[i] = d * static_cast<float>(Load<int8_t>(scales + i));
    }
    group.minimum = 0;
    for (int i = 0; i < 32; ++i) {
      const int low = LoadByte(nibbles + i) >> (quarter / 2 * 4) & 15;
      const int high = LoadByte(upper + i) >> (quarter * 2) & 3;
      group.q[i] = static_cast<int8_t>((low | high << 4) - 32);
    }
  }
}

using BlockDecoder = void (*)(const std::byte* block, QuantGroup* groups);

// Null for the plain types.
BlockDecoder DecoderOf(SourceType type) {
  switch (type) {
    case SourceType::kF32:
    case SourceType::kF16:
    case SourceType::kBF16:
      return nullptr;
    case SourceType::kQ8_0:
      return DecodeQ8_0;
    case SourceType::kQ4_0:
      return DecodeQ4_0;
    case SourceType::kQ4_1:
      return DecodeQ4_1;
    case SourceType::kQ5_0:
      return DecodeQ5_0;
    case SourceType::kQ5_1:
      return DecodeQ5_1;
    case SourceType::kQ4_K:
      return DecodeQ4_K;
    case SourceType::kQ5_K:
      return DecodeQ5_K;
    case SourceType::kQ6_K:
      return DecodeQ6_K;
  }
  return nullptr;
}

void ExpandGroup(const QuantGroup& group, float* out) {
  for (int64_t i = 0; i < kGroupElements; ++i) {
    out[i] =
        group.scale[i / 16] * static_cast<float>(group.q[i]) + group.minimum;
  }
}

}  // namespace

bool IsQuantized(SourceType type) { return DecoderOf(type) != nullptr; }

void DecodeGroups(SourceType type, const std::byte* row, int64_t num_elements,
                  QuantGroup* groups) {
  const BlockDecoder decode = DecoderOf(type);
  SKV_CHECK(decode != nullptr);
  const int64_t block_elements = BlockElements(type);
  SKV_CHECK(num_elements >= 0 && num_elements % block_elements == 0);
  for (int64_t begin = 0; begin < num_elements; begin += block_elements) {
    decode(row, groups);
    row += BlockBytes(type);
    groups += block_elements / kGroupElements;
  }
}

void DequantizeRow(SourceType type, const std::byte* row, int64_t num_elements,
                   float* out) {
  if (type == SourceType::kF32) {
    if (num_elements > 0) std::memcpy(out, row, num_elements * sizeof(float));
    return;
  }
  if (type == SourceType::kF16) {
    for (int64_t i = 0; i < num_elements; ++i) out[i] = LoadF16(row + 2 * i);
    return;
  }
  if (type == SourceType::kBF16) {
    for (int64_t i = 0; i < num_elements; ++i) {
      out[i] = Bf16ToF32(Load<uint16_t>(row + 2 * i));
    }
    return;
  }
  // One block at a time: at most 256 elements, 8 groups.
  const int64_t block_elements = BlockElements(type);
  SKV_CHECK(num_elements >= 0 && num_elements % block_elements == 0);
  QuantGroup groups[8];
  for (int64_t begin = 0; begin < num_elements; begin += block_elements) {
    DecodeGroups(type, row, block_elements, groups);
    for (int64_t g = 0; g < block_elements / kGroupElements; ++g) {
      ExpandGroup(groups[g], out + begin + g * kGroupElements);
    }
    row += BlockBytes(type);
  }
}

}  // namespace sentencekv
