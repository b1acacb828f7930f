// SPDX-License-Identifier: Apache-2.0
// Products with AVX-512 VNNI: a vector is a panel by four columns of bytes, or by two of 16-bit integers.
//
// vpdpbusd multiplies unsigned fields by signed bytes of x and adds four products to a 32-bit integer, without
// saturation, so that fields of 8 bits are bytes too. It takes some cycles to be done: with few rows several vectors of
// a row are summed side by side. Not here: unpacking, and
// few rows (those of AVX2 do).
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include "plain.h"

#ifndef KALDI_MPQ_VNNI  // tests define it, and spell the instructions out
#define KALDI_MPQ_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))
#endif

namespace kaldi_mpq::packed {
namespace {

constexpr int sums_side_by_side(int rows) { return rows >= 5 ? 1 : rows >= 3 ? 2 : 4; }

struct Bytes {
  using X = int8_t;
  using Field = uint8_t;
  static constexpr int64_t kColumns = 4;
  KALDI_MPQ_VNNI static __m512i dot(__m512i sum, __m512i fields, __m512i x) {
    return _mm512_dpbusd_epi32(sum, fields, x);
  }
};

struct Words {
  using X = int16_t;
  using Field = int16_t;
  static constexpr int64_t kColumns = 2;
  KALDI_MPQ_VNNI static __m512i dot(__m512i sum, __m512i fields, __m512i x) {
    return _mm512_dpwssd_epi32(sum, fields, x);
  }
};

// `columns` is a multiple of kColumnStep, so that steps of four vectors come out even.
template <typename Kind, int kRows>
KALDI_MPQ_VNNI inline void rows_of(const typename Kind::X* x, int64_t stride, const typename Kind::Field* fields,
                                   int64_t columns, int32_t* sums) {
  constexpr int kSide = sums_side_by_side(kRows);
  static_assert(kColumnStep % (Kind::kColumns * kSide) == 0, "whole steps");
  __m512i totals[kRows][kSide];
  for (int i = 0; i < kRows; ++i) {
    totals[i][0] = _mm512_loadu_si512(sums + i * kPanel);
    for (int s = 1; s < kSide; ++s) totals[i][s] = _mm512_setzero_si512();
  }
  for (int64_t k = 0; k < columns; k += Kind::kColumns * kSide)
    for (int s = 0; s < kSide; ++s, fields += Kind::kColumns * kPanel) {
      const __m512i own = _mm512_loadu_si512(fields);
      for (int i = 0; i < kRows; ++i) {
        int32_t few;
        __builtin_memcpy(&few, x + i * stride + k + s * Kind::kColumns, sizeof few);
        totals[i][s] = Kind::dot(totals[i][s], own, _mm512_set1_epi32(few));
      }
    }
  for (int i = 0; i < kRows; ++i) {
    for (int s = 1; s < kSide; ++s) totals[i][0] = _mm512_add_epi32(totals[i][0], totals[i][s]);
    _mm512_storeu_si512(sums + i * kPanel, totals[i][0]);
  }
}

template <typename Kind>
KALDI_MPQ_VNNI inline void multiply(const typename Kind::X* x, int64_t stride, int64_t rows,
                                    const typename Kind::Field* fields, int64_t columns, int32_t* sums) {
  for (; rows >= 8; rows -= 8, x += 8 * stride, sums += 8 * kPanel)
    rows_of<Kind, 8>(x, stride, fields, columns, sums);
  for (; rows >= 4; rows -= 4, x += 4 * stride, sums += 4 * kPanel)
    rows_of<Kind, 4>(x, stride, fields, columns, sums);
  if (rows == 3) rows_of<Kind, 3>(x, stride, fields, columns, sums);
  if (rows == 2) rows_of<Kind, 2>(x, stride, fields, columns, sums);
  if (rows == 1) rows_of<Kind, 1>(x, stride, fields, columns, sums);
}

KALDI_MPQ_VNNI void multiply_bytes(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* fields,
                                   int64_t columns, int, int32_t* sums) {
  multiply<Bytes>(x, stride, rows, fields, columns, sums);
}

KALDI_MPQ_VNNI void multiply_words(const int16_t* x, int64_t stride, int64_t rows, const int16_t* fields,
                                   int64_t columns, int32_t* sums) {
  multiply<Words>(x, stride, rows, fields, columns, sums);
}

template <int kRows>
KALDI_MPQ_VNNI inline void floats_rows(const float* x, int64_t stride, const float* codes, int64_t columns,
                                       float* sums) {
  __m512 totals[kRows];
  for (int i = 0; i < kRows; ++i) totals[i] = _mm512_loadu_ps(sums + i * kPanel);
  for (int64_t k = 0; k < columns; ++k, codes += kPanel) {
    const __m512 own = _mm512_loadu_ps(codes);
    for (int i = 0; i < kRows; ++i) totals[i] = _mm512_fmadd_ps(own, _mm512_set1_ps(x[i * stride + k]), totals[i]);
  }
  for (int i = 0; i < kRows; ++i) _mm512_storeu_ps(sums + i * kPanel, totals[i]);
}

KALDI_MPQ_VNNI void multiply_floats(const float* x, int64_t stride, int64_t rows, const float* codes, int64_t columns,
                                    float* sums) {
  for (; rows >= 8; rows -= 8, x += 8 * stride, sums += 8 * kPanel) floats_rows<8>(x, stride, codes, columns, sums);
  for (; rows > 0; --rows, x += stride, sums += kPanel) floats_rows<1>(x, stride, codes, columns, sums);
}

KALDI_MPQ_VNNI void add_scaled(const int32_t* sums, int64_t rows, int bits, const int32_t* x_sum, int64_t stride,
                               const float* x_scale, const float* scale, const float* start, float* y, int64_t y_stride) {
  plain::add_scaled(sums, rows, bits, x_sum, stride, x_scale, scale, start, y, y_stride);
}

KALDI_MPQ_VNNI void add_powers(const float* y, int64_t rows, const float* bias, const float* shift, LogSums* totals) {
  plain::add_powers(y, rows, bias, shift, totals);
}

bool is_supported() {
#ifdef KALDI_MPQ_VNNI_ALWAYS
  return true;
#endif
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const Kernels* vnni_kernels() {
  const Kernels* avx2 = avx2_kernels();
  if (avx2 == nullptr || !is_supported()) return nullptr;
  static const Kernels kernels{"vnni",
                               true,
                               avx2->unpack_bytes,
                               avx2->unpack_words,
                               avx2->unpack_floats,
                               multiply_bytes,
                               multiply_words,
                               multiply_floats,
                               avx2->few_rows,
                               avx2->multiply_few_bytes,
                               avx2->multiply_few_words,
                               add_scaled,
                               add_powers};
  return &kernels;
}

}  // namespace kaldi_mpq::packed

#else

namespace kaldi_mpq::packed {

const Kernels* vnni_kernels() { return nullptr; }

}  // namespace kaldi_mpq::packed

#endif
