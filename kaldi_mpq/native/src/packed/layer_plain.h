// SPDX-License-Identifier: Apache-2.0
// The layers' arithmetic in vectors of eight numbers, as templates that each set of kernels compiles for its processor.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "layer_kernels.h"
#include "plain.h"

namespace kaldi_mpq::packed::plain {

#if defined(__clang__)
#define KALDI_MPQ_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define KALDI_MPQ_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Ints8{__VA_ARGS__})
#endif

constexpr int64_t kLanes = 8;

// Vectors are passed by reference: see plain.h.
KALDI_MPQ_INLINE const Floats8& lanes(const float* x) { return *reinterpret_cast<const Floats8*>(x); }
KALDI_MPQ_INLINE Floats8& lanes(float* x) { return *reinterpret_cast<Floats8*>(x); }

KALDI_MPQ_INLINE float sum_of(const Floats8& x) {
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

// 2^x in its place, as in dense/power.h; 0 from kSmallestPower down, NaN stays.
KALDI_MPQ_INLINE void raise_two(Floats8& x) {
  using namespace dense;
  const Floats8 smallest = Floats8{} + kSmallestPower, rounder = Floats8{} + kRounder;
  x = x < smallest ? smallest : x;
  const Floats8 t = x + rounder, f = x - (t - rounder);
  const Floats8 p = ((((f * kPower5 + kPower4) * f + kPower3) * f + kPower2) * f + kPower1) * f + kPower0;
  const Numbers8 exponent = (Numbers8)t << 23;
  x = p * (Floats8)exponent;
}

KALDI_MPQ_INLINE void normalize(const float* x, int64_t n, const float* scale, const float* shift, float* out) {
  constexpr float kEpsilon = 1e-5f;
  Floats8 sums = Floats8{}, squares = Floats8{};
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) sums += lanes(x + k);
  float mean = sum_of(sums);
  for (; k < n; ++k) mean += x[k];
  mean /= static_cast<float>(n);
  for (k = 0; k + kLanes <= n; k += kLanes) {
    const Floats8 apart = lanes(x + k) - mean;
    squares += apart * apart;
  }
  float variance = sum_of(squares);
  for (; k < n; ++k) variance += (x[k] - mean) * (x[k] - mean);
  const float factor = 1.0f / std::sqrt(variance / static_cast<float>(n) + kEpsilon);
  for (k = 0; k + kLanes <= n; k += kLanes)
    lanes(out + k) = (lanes(x + k) - mean) * factor * lanes(scale + k) + lanes(shift + k);
  for (; k < n; ++k) out[k] = (x[k] - mean) * factor * scale[k] + shift[k];
}

// x Phi(x) = max(x, 0) - a Phi(-a) with a = |x|. The second part is a polynomial p(u) of degree 16, u = 2 a / kFar - 1,
// interpolated at Chebyshev's nodes; beyond kFar it is taken as p(1), 1e-7. 2.2e-7 is the largest error.
constexpr float kFar = 5.5f;
constexpr float kGelu[] = {-0.0156969205f, -0.000522047339f, 0.0989243686f, -0.0374604091f, -0.256906211f,
                           0.232402071f,   0.272212535f,     -0.545276403f, 0.151383862f,   0.459697336f,
                           -0.628322899f,  0.260418266f,     0.178947583f,  -0.308680892f,  0.191263378f,
                           -0.0605779812f, 0.0081943702f};

KALDI_MPQ_INLINE void gelu_lanes(Floats8& x) {
  const Floats8 zero = Floats8{}, far = zero + kFar;
  Floats8 a = x < zero ? -x : x;
  a = a > far ? far : a;
  const Floats8 u = a * (2.0f / kFar) - 1.0f;
  Floats8 p = zero + kGelu[0];
  for (std::size_t k = 1; k < sizeof kGelu / sizeof *kGelu; ++k) p = p * u + kGelu[k];
  x = (x > zero ? x : zero) - p;
}

KALDI_MPQ_INLINE void gelu(float* x, int64_t n) {
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) gelu_lanes(lanes(x + k));
  if (k == n) return;
  float rest[kLanes] = {};
  std::memcpy(rest, x + k, (n - k) * sizeof *x);
  gelu_lanes(lanes(rest));
  std::memcpy(x + k, rest, (n - k) * sizeof *x);
}

// Makes `count` logits, in bits, probabilities. There is room up to a multiple of kLanes, which is written to.
KALDI_MPQ_INLINE void softmax(float* x, int64_t count) {
  const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
  for (int64_t t = count; t < padded; ++t) x[t] = -std::numeric_limits<float>::infinity();
  Floats8 tops = lanes(x), sums = Floats8{};
  for (int64_t t = kLanes; t < padded; t += kLanes) tops = lanes(x + t) > tops ? lanes(x + t) : tops;
  float top = tops[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) top = tops[lane] > top ? tops[lane] : top;
  for (int64_t t = 0; t < padded; t += kLanes) {
    Floats8 power = lanes(x + t) - top;
    raise_two(power);
    sums += power;
    lanes(x + t) = power;
  }
  const float factor = 1.0f / sum_of(sums);
  for (int64_t t = 0; t < padded; t += kLanes) lanes(x + t) *= factor;
}

constexpr int64_t kTogether = 4;  // keys whose products with a query are summed side by side

// Writes the sums of the lanes of four vectors.
KALDI_MPQ_INLINE void sums_of(const Floats8* x, float* out) {
  const Floats8 first = KALDI_MPQ_SHUFFLE(x[0], x[1], 0, 8, 1, 9, 4, 12, 5, 13) +
                        KALDI_MPQ_SHUFFLE(x[0], x[1], 2, 10, 3, 11, 6, 14, 7, 15);
  const Floats8 second = KALDI_MPQ_SHUFFLE(x[2], x[3], 0, 8, 1, 9, 4, 12, 5, 13) +
                         KALDI_MPQ_SHUFFLE(x[2], x[3], 2, 10, 3, 11, 6, 14, 7, 15);
  const Floats8 both = KALDI_MPQ_SHUFFLE(first, second, 0, 1, 8, 9, 4, 5, 12, 13) +
                       KALDI_MPQ_SHUFFLE(first, second, 2, 3, 10, 11, 6, 7, 14, 15);
  for (int64_t i = 0; i < kTogether; ++i) out[i] = both[i] + both[i + 4];
}

// Writes the products of a query, (width), with four keys.
KALDI_MPQ_INLINE void dot_keys(const float* query, const float* const* keys, int64_t width, float* out) {
  Floats8 sums[kTogether] = {};
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes)
    for (int64_t i = 0; i < kTogether; ++i) sums[i] += lanes(query + k) * lanes(keys[i] + k);
  sums_of(sums, out);
  for (; k < width; ++k)
    for (int64_t i = 0; i < kTogether; ++i) out[i] += query[k] * keys[i][k];
}

// Writes the sums of values, kVectors * kLanes columns from `values` on, times weights.
template <int64_t kVectors>
KALDI_MPQ_INLINE void mix(const float* weights, const float* values, const Attended& there, float* out) {
  const int64_t dim = there.heads * there.width;
  Floats8 sums[kVectors] = {};
  for (int64_t t = 0; t < there.count; ++t) {
    const float* value = values + there.rows[t] * dim;
    for (int64_t i = 0; i < kVectors; ++i) sums[i] += weights[t] * lanes(value + i * kLanes);
  }
  for (int64_t i = 0; i < kVectors; ++i) lanes(out + i * kLanes) = sums[i];
}

KALDI_MPQ_INLINE void mix_head(const float* weights, const float* values, const Attended& there, float* out) {
  const int64_t width = there.width, dim = there.heads * width;
  int64_t k = 0;
  for (; k + 4 * kLanes <= width; k += 4 * kLanes) mix<4>(weights, values + k, there, out + k);
  for (; k + kLanes <= width; k += kLanes) mix<1>(weights, values + k, there, out + k);
  for (; k < width; ++k) {
    out[k] = 0.0f;
    for (int64_t t = 0; t < there.count; ++t) out[k] += weights[t] * values[there.rows[t] * dim + k];
  }
}

KALDI_MPQ_INLINE void attend(const float* query, const Attended& there, float* weights, float* out) {
  const int64_t width = there.width, dim = there.heads * width;
  const int64_t stride = (there.count + kLanes - 1) / kLanes * kLanes;
  const float scale = dense::kLog2E / std::sqrt(static_cast<float>(width));
  for (int64_t t = 0; t < there.count; t += kTogether) {
    const float* keys[kTogether];
    for (int64_t i = 0; i < kTogether; ++i)
      keys[i] = there.keys + there.rows[t + i < there.count ? t + i : there.count - 1] * dim;
    for (int64_t h = 0; h < there.heads; ++h) {
      float* found = weights + h * stride + t;
      dot_keys(query + h * width, keys, width, found);
      for (int64_t i = 0; i < kTogether; ++i) found[i] *= scale, keys[i] += width;
    }
  }
  for (int64_t h = 0; h < there.heads; ++h) {
    softmax(weights + h * stride, there.count);
    mix_head(weights + h * stride, there.values + h * width, there, out + h * width);
  }
}

}  // namespace kaldi_mpq::packed::plain
