// SPDX-License-Identifier: Apache-2.0
// Whole numbers of at most 15 bits and a sign for a vector's chunk, as exact as the bound on sums of products allows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace kaldi_mpq::dense {

// How the columns of a matrix are cut: equal chunks, the last columns filled up with zeros.
struct Chunks {
  int64_t count, columns;

  static Chunks of(int64_t columns) {
    const int64_t count = std::max<int64_t>(1, (columns + kLongestChunk - 1) / kLongestChunk);
    const int64_t each = (columns + count - 1) / count;
    return {count, std::max<int64_t>(1, (each + kColumnStep - 1) / kColumnStep) * kColumnStep};
  }
  int64_t padded() const { return count * columns; }
};

// Returns the largest factor that keeps codes of x below kLargestCode and their norm below `norm`, 0 if x is zero, NaN
// if x is not finite.
inline float fitting_factor(const float* x, int64_t n, double norm) {
  constexpr int64_t kLanes = 16;  // the same order of additions on every processor, and one that they do in parallel
  float largest[kLanes] = {}, nothing[kLanes] = {};
  double square[kLanes] = {};
  const auto add = [&](float value, int64_t lane) {
    largest[lane] = std::max(largest[lane], std::fabs(value));
    nothing[lane] += value * 0.0f;  // NaN as soon as one is infinite or NaN
    square[lane] += static_cast<double>(value) * value;
  };
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) add(x[k + lane], lane);
  for (; k < n; ++k) add(x[k], k % kLanes);
  double peak = 0.0, total = 0.0, check = 0.0;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    peak = std::max(peak, static_cast<double>(largest[lane]));
    total += square[lane];
    check += nothing[lane];
  }
  if (!(check == 0.0)) return NAN;
  // Below the smallest normal number a factor would be infinite: such a vector is as good as zero.
  if (peak < 1e-30) return 0.0f;
  // Rounding moves each code by at most 1/2; the factor itself is rounded too, hence 0.99999.
  const double room = norm - 0.5 * std::sqrt(static_cast<double>(n));
  return static_cast<float>(0.99999 * std::min(kLargestCode / peak, room / std::sqrt(total)));
}

// Returns x * factor to the nearest whole number, half to even.
inline int16_t code_of(float x, float factor) {
  constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction
  const float shifted = x * factor + kWhole;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return static_cast<int16_t>(bits - 0x4B400000);
}

}  // namespace kaldi_mpq::dense
