// SPDX-License-Identifier: Apache-2.0
// Products with AVX2 and FMA: four rows of x by a panel, eight accumulators, weights loaded once for all four.
//
// Bytes are multiplied by vpmaddubsw, whose sums of two products are 16-bit integers: fields of 4 bits and less leave
// room to add several of these before they are widened. Those of 8 bits would saturate at once, so that matrices of 8
// bits take 16-bit integers here even where activations have 8.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include "plain.h"

#define KALDI_MPQ_AVX2 __attribute__((target("avx2,fma")))

namespace kaldi_mpq::packed {
namespace {

using Vector = __m256i;

KALDI_MPQ_AVX2 inline Vector load(const void* from) {
  return _mm256_loadu_si256(static_cast<const Vector*>(from));
}

KALDI_MPQ_AVX2 inline void store(void* to, Vector x) { _mm256_storeu_si256(static_cast<Vector*>(to), x); }

// Calls put(at, 32 fields as bytes) for all fields.
template <int kBits, typename Put>
KALDI_MPQ_AVX2 inline void each_vector(const uint8_t* packed, int64_t count, const Put& put) {
  const Vector mask = _mm256_set1_epi8(static_cast<char>((1 << kBits) - 1));
  for (int64_t at = 0; at < count; packed += kFieldBlock) {
    Vector fields = load(packed);
    for (int place = 0; place < 8 / kBits; ++place, at += kFieldBlock) {
      put(at, kBits == 8 ? fields : _mm256_and_si256(fields, mask));
      fields = _mm256_srli_epi16(fields, kBits);
    }
  }
}

template <typename Put>
KALDI_MPQ_AVX2 inline void each_vector(const uint8_t* packed, int bits, int64_t count, const Put& put) {
  if (bits == 1) return each_vector<1>(packed, count, put);
  if (bits == 2) return each_vector<2>(packed, count, put);
  if (bits == 4) return each_vector<4>(packed, count, put);
  each_vector<8>(packed, count, put);
}

KALDI_MPQ_AVX2 void unpack_bytes(const uint8_t* packed, int bits, int64_t count, uint8_t* out) {
  each_vector(packed, bits, count, [out](int64_t at, Vector fields) KALDI_MPQ_AVX2 { store(out + at, fields); });
}

KALDI_MPQ_AVX2 void unpack_words(const uint8_t* packed, int bits, int64_t count, int16_t* out) {
  each_vector(packed, bits, count, [out](int64_t at, Vector fields) KALDI_MPQ_AVX2 {
    store(out + at, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(fields)));
    store(out + at + 16, _mm256_cvtepu8_epi16(_mm256_extracti128_si256(fields, 1)));
  });
}

KALDI_MPQ_AVX2 void unpack_floats(const uint8_t* packed, int bits, int64_t count, float* out) {
  const __m256 step = _mm256_set1_ps(static_cast<float>(field_step(bits)));
  const __m256 offset = _mm256_set1_ps(static_cast<float>(field_offset(bits)));
  const auto put = [=](float* to, __m128i fields) KALDI_MPQ_AVX2 {
    _mm256_storeu_ps(to, _mm256_fmsub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(fields)), step, offset));
  };
  each_vector(packed, bits, count, [=](int64_t at, Vector fields) KALDI_MPQ_AVX2 {
    const __m128i low = _mm256_castsi256_si128(fields), high = _mm256_extracti128_si256(fields, 1);
    put(out + at, low);
    put(out + at + 8, _mm_unpackhi_epi64(low, low));
    put(out + at + 16, high);
    put(out + at + 24, _mm_unpackhi_epi64(high, high));
  });
}

KALDI_MPQ_AVX2 inline Vector broadcast(const void* four_bytes) {
  int32_t value;
  __builtin_memcpy(&value, four_bytes, sizeof value);
  return _mm256_set1_epi32(value);
}

KALDI_MPQ_AVX2 inline void add_to(int32_t* sums, Vector x) { store(sums, _mm256_add_epi32(load(sums), x)); }

// How many columns fit a sum of 16 bits: products of two columns are at most 2 * 127 * the largest field.
constexpr int64_t narrow_columns(int bits) { return bits == 1 ? 512 : bits == 2 ? 256 : 32; }
static_assert(2 * 127 * 14 * (narrow_columns(4) / 4) <= 32767, "4 bits");
static_assert(2 * 127 * 2 * (narrow_columns(2) / 4) <= 32767, "2 bits");
static_assert(2 * 127 * 1 * (narrow_columns(1) / 4) <= 32767, "1 bit");

template <int kRows>
KALDI_MPQ_AVX2 inline void bytes_rows(const int8_t* x, int64_t stride, const uint8_t* fields, int64_t columns,
                                      int64_t narrow, int32_t* sums) {
  const Vector ones = _mm256_set1_epi16(1);
  for (int64_t begin = 0; begin < columns; begin += narrow) {
    const int64_t end = begin + narrow < columns ? begin + narrow : columns;
    Vector low[kRows], high[kRows];
    for (int i = 0; i < kRows; ++i) low[i] = high[i] = _mm256_setzero_si256();
    for (int64_t k = begin; k < end; k += 4, fields += 4 * kPanel) {
      const Vector first = load(fields), second = load(fields + 2 * kPanel);
      for (int i = 0; i < kRows; ++i) {
        const Vector own = broadcast(x + i * stride + k);
        low[i] = _mm256_add_epi16(low[i], _mm256_maddubs_epi16(first, own));
        high[i] = _mm256_add_epi16(high[i], _mm256_maddubs_epi16(second, own));
      }
    }
    for (int i = 0; i < kRows; ++i) {
      add_to(sums + i * kPanel, _mm256_madd_epi16(low[i], ones));
      add_to(sums + i * kPanel + 8, _mm256_madd_epi16(high[i], ones));
    }
  }
}

KALDI_MPQ_AVX2 void multiply_bytes(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* fields,
                                   int64_t columns, int bits, int32_t* sums) {
  const int64_t narrow = narrow_columns(bits);
  for (; rows >= 4; rows -= 4, x += 4 * stride, sums += 4 * kPanel)
    bytes_rows<4>(x, stride, fields, columns, narrow, sums);
  if (rows == 3) bytes_rows<3>(x, stride, fields, columns, narrow, sums);
  if (rows == 2) bytes_rows<2>(x, stride, fields, columns, narrow, sums);
  if (rows == 1) bytes_rows<1>(x, stride, fields, columns, narrow, sums);
}

template <int kRows>
KALDI_MPQ_AVX2 inline void words_rows(const int16_t* x, int64_t stride, const int16_t* fields, int64_t columns,
                                      int32_t* sums) {
  Vector low[kRows], high[kRows];
  for (int i = 0; i < kRows; ++i) low[i] = high[i] = _mm256_setzero_si256();
  for (int64_t k = 0; k < columns; k += 2, fields += 2 * kPanel) {
    const Vector first = load(fields), second = load(fields + kPanel);
    for (int i = 0; i < kRows; ++i) {
      const Vector own = broadcast(x + i * stride + k);
      low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(first, own));
      high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(second, own));
    }
  }
  for (int i = 0; i < kRows; ++i) {
    add_to(sums + i * kPanel, low[i]);
    add_to(sums + i * kPanel + 8, high[i]);
  }
}

KALDI_MPQ_AVX2 void multiply_words(const int16_t* x, int64_t stride, int64_t rows, const int16_t* fields,
                                   int64_t columns, int32_t* sums) {
  for (; rows >= 4; rows -= 4, x += 4 * stride, sums += 4 * kPanel) words_rows<4>(x, stride, fields, columns, sums);
  if (rows == 3) words_rows<3>(x, stride, fields, columns, sums);
  if (rows == 2) words_rows<2>(x, stride, fields, columns, sums);
  if (rows == 1) words_rows<1>(x, stride, fields, columns, sums);
}

template <int kRows>
KALDI_MPQ_AVX2 inline void floats_rows(const float* x, int64_t stride, const float* codes, int64_t columns,
                                       float* sums) {
  __m256 low[kRows], high[kRows];
  for (int i = 0; i < kRows; ++i) {
    low[i] = _mm256_loadu_ps(sums + i * kPanel);
    high[i] = _mm256_loadu_ps(sums + i * kPanel + 8);
  }
  for (int64_t k = 0; k < columns; ++k, codes += kPanel) {
    const __m256 first = _mm256_loadu_ps(codes), second = _mm256_loadu_ps(codes + 8);
    for (int i = 0; i < kRows; ++i) {
      const __m256 own = _mm256_broadcast_ss(x + i * stride + k);
      low[i] = _mm256_fmadd_ps(first, own, low[i]);
      high[i] = _mm256_fmadd_ps(second, own, high[i]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    _mm256_storeu_ps(sums + i * kPanel, low[i]);
    _mm256_storeu_ps(sums + i * kPanel + 8, high[i]);
  }
}

KALDI_MPQ_AVX2 void multiply_floats(const float* x, int64_t stride, int64_t rows, const float* codes, int64_t columns,
                                    float* sums) {
  for (; rows >= 4; rows -= 4, x += 4 * stride, sums += 4 * kPanel) floats_rows<4>(x, stride, codes, columns, sums);
  if (rows == 3) floats_rows<3>(x, stride, codes, columns, sums);
  if (rows == 2) floats_rows<2>(x, stride, codes, columns, sums);
  if (rows == 1) floats_rows<1>(x, stride, codes, columns, sums);
}

KALDI_MPQ_AVX2 void add_scaled(const int32_t* sums, int64_t rows, int bits, const int32_t* x_sum, int64_t stride,
                               const float* x_scale, const float* scale, float* y) {
  plain::add_scaled(sums, rows, bits, x_sum, stride, x_scale, scale, y);
}

KALDI_MPQ_AVX2 void add_powers(const float* y, int64_t rows, const float* bias, const float* shift, LogSums* totals) {
  plain::add_powers(y, rows, bias, shift, totals);
}

constexpr Kernels kAvx2{"avx2",         false,          unpack_bytes,    unpack_words, unpack_floats,
                        multiply_bytes, multiply_words, multiply_floats, add_scaled,   add_powers};

}  // namespace

const Kernels* avx2_kernels() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kAvx2 : nullptr;
}

}  // namespace kaldi_mpq::packed

#else

namespace kaldi_mpq::packed {

const Kernels* avx2_kernels() { return nullptr; }

}  // namespace kaldi_mpq::packed

#endif
