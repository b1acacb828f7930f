// SPDX-License-Identifier: Apache-2.0
#include "activations.h"

#include <cmath>
#include <cstring>

#include "dense/quantize.h"

namespace kaldi_mpq::packed {
namespace {

// Returns the largest magnitude of n floats, NaN if one is not finite.
float peak_of(const float* x, int64_t n) {
  constexpr int64_t kLanes = 16;
  float largest[kLanes] = {}, nothing[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      largest[lane] = std::max(largest[lane], std::fabs(x[k + lane]));
      nothing[lane] += x[k + lane] * 0.0f;  // NaN as soon as one is infinite or NaN
    }
  for (; k < n; ++k) {
    largest[0] = std::max(largest[0], std::fabs(x[k]));
    nothing[0] += x[k] * 0.0f;
  }
  float peak = 0.0f, check = 0.0f;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    peak = std::max(peak, largest[lane]);
    check += nothing[lane];
  }
  return check == 0.0f ? peak : NAN;
}

// A clip's factor is rounded as torch rounds it where models are trained with such grids: by way of 1 / clip.
float factor_of(const Forms& forms, float top) {
  const float limit = static_cast<float>(forms.limit);
  return forms.clip > 0.0f ? 1.0f / top * limit : limit / top;
}

// Makes floats what the whole numbers are that they would become; NaN stays.
void put_on_grid(float* x, int64_t n, const Forms& forms) {
  const float limit = static_cast<float>(forms.limit), factor = factor_of(forms, forms.clip), unit = forms.clip / limit;
  for (int64_t k = 0; k < n; ++k)
    if (!std::isnan(x[k])) x[k] = unit * dense::code_of(std::clamp(x[k], -forms.clip, forms.clip), factor);
}

// Copies n numbers to their places, with those that fill up the last four.
void put_words(const int16_t* numbers, int64_t n, int16_t* words) {
  static_assert(word_place(1) == 2 && word_place(2) == 1, "the middle ones change places");
  for (int64_t k = 0; k < n; k += 4, numbers += 4, words += 4) {
    words[0] = numbers[0];
    words[1] = numbers[2];
    words[2] = numbers[1];
    words[3] = numbers[3];
  }
}

}  // namespace

void Activations::pack(const float* x, const int64_t* which, int64_t n) {
  rows_ = n;
  scales_.assign(n, 0.0f);
  sums_.assign(n * segments_.count, 0);
  if (forms_.bytes) bytes_.assign(n * stride(), 0);
  if (forms_.words) words_.assign(n * stride(), 0);
  if (forms_.floats) floats_.assign(n * stride(), 0.0f);
  for (int64_t i = 0; i < n; ++i) pack_row(x + (which == nullptr ? i : which[i]) * segments_.columns, i);
}

void Activations::pack_row(const float* x, int64_t row) {
  for (int64_t s = 0; forms_.floats && s < segments_.count; ++s) {
    float* to = floats_.data() + row * stride() + s * segments_.padded_each();
    std::memcpy(to, x + s * segments_.each, segments_.size(s) * sizeof *x);
    if (forms_.clip > 0.0f) put_on_grid(to, segments_.size(s), forms_);
  }
  if (forms_.bytes || forms_.words) pack_numbers(x, row);
}

void Activations::pack_numbers(const float* x, int64_t row) {
  const float peak = peak_of(x, segments_.columns);
  if (std::isnan(peak)) {
    scales_[row] = NAN;
    return;
  }
  const float top = forms_.clip > 0.0f ? forms_.clip : peak, limit = static_cast<float>(forms_.limit);
  if (top < 1e-30f) return;  // as good as zero: a factor would be infinite
  const float factor = factor_of(forms_, top);
  scales_[row] = top / limit;
  int16_t numbers[kChunk];
  for (int64_t s = 0; s < segments_.count; ++s) {
    int32_t sum = 0;
    for (int64_t begin = 0; begin < segments_.size(s); begin += kChunk) {
      const int64_t n = std::min(kChunk, segments_.size(s) - begin);
      const float* from = x + s * segments_.each + begin;
      const int64_t to = row * stride() + s * segments_.padded_each() + begin;
      for (int64_t k = 0; k < n; ++k) numbers[k] = dense::code_of(std::clamp(from[k], -top, top), factor);
      for (int64_t k = 0; k < n; ++k) sum += numbers[k];
      for (int64_t k = n; k % 4 != 0; ++k) numbers[k] = 0;
      if (forms_.words) put_words(numbers, n, words_.data() + to);
      for (int64_t k = 0; forms_.bytes && k < n; ++k) bytes_[to + k] = static_cast<int8_t>(numbers[k]);
    }
    sums_[row * segments_.count + s] = sum;
  }
}

}  // namespace kaldi_mpq::packed
