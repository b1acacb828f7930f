// SPDX-License-Identifier: Apache-2.0
// What needs no instruction by name, as templates that each set of kernels compiles for its own processor.
#pragma once

#include <cstdint>
#include <cstring>

#include "dense/power.h"
#include "kernels.h"

#define KALDI_MPQ_INLINE inline __attribute__((always_inline))

namespace kaldi_mpq::packed::plain {

// Calls put(place, field) for every field. `bits` is 1, 2, 4 or 8.
template <typename Put>
KALDI_MPQ_INLINE void each_field(const uint8_t* packed, int bits, int64_t count, const Put& put) {
  const int places = 8 / bits;
  const uint8_t mask = static_cast<uint8_t>((1 << bits) - 1);
  for (int64_t at = 0; at < count; packed += kFieldBlock)
    for (int place = 0; place < places; ++place, at += kFieldBlock)
      for (int64_t j = 0; j < kFieldBlock; ++j) put(at + j, static_cast<uint8_t>((packed[j] >> (place * bits)) & mask));
}

KALDI_MPQ_INLINE void unpack_floats(const uint8_t* packed, int bits, int64_t count, float* out) {
  const int step = field_step(bits), offset = field_offset(bits);
  each_field(packed, bits, count, [=](int64_t at, uint8_t field) {
    out[at] = static_cast<float>(step * static_cast<int>(field) - offset);
  });
}

template <int kRows>
KALDI_MPQ_INLINE void multiply_floats_rows(const float* x, int64_t stride, const float* codes, int64_t columns,
                                           float* sums) {
  float totals[kRows][kPanel];
  std::memcpy(totals, sums, sizeof totals);
  for (int64_t k = 0; k < columns; ++k, codes += kPanel)
    for (int i = 0; i < kRows; ++i)
      for (int64_t v = 0; v < kPanel; ++v) totals[i][v] += x[i * stride + k] * codes[v];
  std::memcpy(sums, totals, sizeof totals);
}

KALDI_MPQ_INLINE void multiply_floats(const float* x, int64_t stride, int64_t rows, const float* codes,
                                      int64_t columns, float* sums) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) multiply_floats_rows<4>(x + i * stride, stride, codes, columns, sums + i * kPanel);
  for (; i < rows; ++i) multiply_floats_rows<1>(x + i * stride, stride, codes, columns, sums + i * kPanel);
}

// Eight numbers at a time, as vectors that the compiler cuts to what the processor has: loops of single numbers would
// stay such. They are never passed to functions, because how depends on the processor.
typedef float Floats8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t Ints8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint32_t Numbers8 __attribute__((vector_size(32), aligned(4), may_alias));

KALDI_MPQ_INLINE void add_scaled(const int32_t* sums, int64_t rows, int bits, const int32_t* x_sum, int64_t stride,
                                 const float* x_scale, const float* scale, const float* start, float* y,
                                 int64_t y_stride) {
  const uint32_t step = field_step(bits), offset = field_offset(bits);
  for (int64_t i = 0; i < rows; ++i, sums += kPanel, y += y_stride) {
    const uint32_t taken = offset * static_cast<uint32_t>(x_sum[i * stride]);
    const float unit = x_scale[i];
    const float* from = start != nullptr ? start : y;
    for (int64_t v = 0; v < kPanel; v += 8) {
      const Numbers8 found = *reinterpret_cast<const Numbers8*>(sums + v);
      const Numbers8 whole = (step == 2 ? found + found : found) - taken;
      const Floats8 value = __builtin_convertvector((Ints8)whole, Floats8);
      const Floats8 factor = unit * *reinterpret_cast<const Floats8*>(scale + v);
      *reinterpret_cast<Floats8*>(y + v) = *reinterpret_cast<const Floats8*>(from + v) + value * factor;
    }
  }
}

// 2^x as in dense/power.h, 0 below kSmallestPower; NaN stays.
KALDI_MPQ_INLINE void add_powers(const float* y, int64_t rows, const float* bias, const float* shift,
                                 LogSums* totals) {
  using namespace dense;
  const Floats8 smallest = Floats8{} + kSmallestPower, rounder = Floats8{} + kRounder;
  for (int64_t i = 0; i < rows; ++i, y += kPanel)
    for (int64_t v = 0; v < kPanel; v += 8) {
      const Floats8 logit =
          *reinterpret_cast<const Floats8*>(y + v) * kLog2E + *reinterpret_cast<const Floats8*>(bias + v);
      Floats8& best = *reinterpret_cast<Floats8*>(totals[i].best + v);
      best = logit > best ? logit : best;
      Floats8 x = logit - shift[i];
      x = x < smallest ? smallest : x;
      const Floats8 t = x + rounder, f = x - (t - rounder);
      const Floats8 p = ((((f * kPower5 + kPower4) * f + kPower3) * f + kPower2) * f + kPower1) * f + kPower0;
      const Numbers8 exponent = (Numbers8)t << 23;
      *reinterpret_cast<Floats8*>(totals[i].sum + v) += p * (Floats8)exponent;
    }
}

}  // namespace kaldi_mpq::packed::plain
