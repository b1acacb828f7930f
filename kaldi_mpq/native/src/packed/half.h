// SPDX-License-Identifier: Apache-2.0
// 16-bit floats (IEEE 754 binary16) to float32 and back, for values that they hold exactly.
#pragma once

#include <cstdint>
#include <cstring>

namespace kaldi_mpq::packed {

// Returns the value of a finite 16-bit float.
inline float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  uint32_t bits = static_cast<uint32_t>(half & 0x7fffu) << 13;  // exponent and fraction in the places of a float32's
  float value;
  std::memcpy(&value, &bits, sizeof value);
  value *= 5.192296858534828e33f;  // 2^112, the difference of the exponents' biases; subnormal numbers come out right
  std::memcpy(&bits, &value, sizeof bits);
  bits |= sign;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Returns the 16-bit float that is `value`.
inline uint16_t to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  std::memcpy(&value, &bits, sizeof value);
  value *= 1.925929944387236e-34f;  // 2^-112
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>(sign | bits >> 13);
}

}  // namespace kaldi_mpq::packed
