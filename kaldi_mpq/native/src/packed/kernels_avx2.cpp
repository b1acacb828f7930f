// SPDX-License-Identifier: Apache-2.0
// Products with AVX2 and FMA: six rows of x by a panel, twelve accumulators, weights loaded once for all six.
//
// Bytes are multiplied by vpmaddubsw, whose sums of two products are 16-bit integers: fields of 4 bits and less leave
// room to add several of these before they are widened. Those of 8 bits would saturate at once, so that matrices of 8
// bits take 16-bit integers here even where activations have 8.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include "avx2.h"
#include "plain.h"

namespace kaldi_mpq::packed {
namespace {

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

// A vector holds four columns of half a panel: those of even number go in front, the panel's halves side by side.
KALDI_MPQ_AVX2 void unpack_words(const uint8_t* packed, int bits, int64_t count, int16_t* out) {
  const Vector even = _mm256_set1_epi16(0xff);
  each_vector(packed, bits, count, [=](int64_t at, Vector fields) KALDI_MPQ_AVX2 {
    int16_t* to = out + at / (4 * kPanel) * (4 * kPanel) + at % (4 * kPanel) / 2;
    store(to, _mm256_and_si256(fields, even));
    store(to + 2 * kPanel, _mm256_srli_epi16(fields, 8));
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

// How many columns fit a sum of 16 bits: products of two columns are at most 2 * 127 * the largest field.
constexpr int64_t narrow_columns(int bits) { return bits == 1 ? 512 : bits == 2 ? 256 : 32; }
static_assert(2 * 127 * 14 * (narrow_columns(4) / 4) <= 32767, "4 bits");
static_assert(2 * 127 * 2 * (narrow_columns(2) / 4) <= 32767, "2 bits");
static_assert(2 * 127 * 1 * (narrow_columns(1) / 4) <= 32767, "1 bit");

struct Bytes {
  using X = int8_t;
  using Field = uint8_t;
  static constexpr int64_t kColumns = 4;  // of a vector
  KALDI_MPQ_AVX2 static void add(Vector& sum, Vector fields, Vector x) { add_bytes(sum, fields, x); }
  KALDI_MPQ_AVX2 static Vector widened(Vector sum) { return _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }
};

struct Words {
  using X = int16_t;
  using Field = int16_t;
  static constexpr int64_t kColumns = 2;
  KALDI_MPQ_AVX2 static void add(Vector& sum, Vector fields, Vector x) { add_words(sum, fields, x); }
  KALDI_MPQ_AVX2 static Vector widened(Vector sum) { return sum; }
};

// Sums are widened, and taken to memory, after every `narrow` columns.
template <typename Kind, int kRows>
KALDI_MPQ_AVX2 inline void rows_of(const typename Kind::X* x, int64_t stride, const typename Kind::Field* fields,
                                   int64_t columns, int64_t narrow, int32_t* sums) {
  for (int64_t begin = 0; begin < columns; begin += narrow) {
    const int64_t end = begin + narrow < columns ? begin + narrow : columns;
    Vector low[kRows], high[kRows];
    for (int i = 0; i < kRows; ++i) low[i] = high[i] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int64_t k = begin; k < end; k += Kind::kColumns, fields += Kind::kColumns * kPanel) {
      const Vector first = load(fields), second = load(fields + Kind::kColumns * kPanel / 2);
      for (int i = 0; i < kRows; ++i) {
        const Vector own = broadcast(x + i * stride + k);
        Kind::add(low[i], first, own);
        Kind::add(high[i], second, own);
      }
    }
    for (int i = 0; i < kRows; ++i) {
      add_to(sums + i * kPanel, Kind::widened(low[i]));
      add_to(sums + i * kPanel + 8, Kind::widened(high[i]));
    }
  }
}

template <typename Kind>
KALDI_MPQ_AVX2 inline void multiply(const typename Kind::X* x, int64_t stride, int64_t rows,
                                    const typename Kind::Field* fields, int64_t columns, int64_t narrow,
                                    int32_t* sums) {
  for (; rows >= 6; rows -= 6, x += 6 * stride, sums += 6 * kPanel)
    rows_of<Kind, 6>(x, stride, fields, columns, narrow, sums);
  if (rows == 5) rows_of<Kind, 5>(x, stride, fields, columns, narrow, sums);
  if (rows == 4) rows_of<Kind, 4>(x, stride, fields, columns, narrow, sums);
  if (rows == 3) rows_of<Kind, 3>(x, stride, fields, columns, narrow, sums);
  if (rows == 2) rows_of<Kind, 2>(x, stride, fields, columns, narrow, sums);
  if (rows == 1) rows_of<Kind, 1>(x, stride, fields, columns, narrow, sums);
}

KALDI_MPQ_AVX2 void multiply_bytes(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* fields,
                                   int64_t columns, int bits, int32_t* sums) {
  multiply<Bytes>(x, stride, rows, fields, columns, narrow_columns(bits), sums);
}

KALDI_MPQ_AVX2 void multiply_words(const int16_t* x, int64_t stride, int64_t rows, const int16_t* fields,
                                   int64_t columns, int32_t* sums) {
  multiply<Words>(x, stride, rows, fields, columns, columns, sums);
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
                               const float* x_scale, const float* scale, const float* start, float* y, int64_t y_stride) {
  plain::add_scaled(sums, rows, bits, x_sum, stride, x_scale, scale, start, y, y_stride);
}

KALDI_MPQ_AVX2 void add_powers(const float* y, int64_t rows, const float* bias, const float* shift, LogSums* totals) {
  plain::add_powers(y, rows, bias, shift, totals);
}

constexpr Kernels kAvx2{"avx2",         false,           unpack_bytes, unpack_words,   unpack_floats,  multiply_bytes,
                        multiply_words, multiply_floats, kFewRows,     avx2_few_bytes, avx2_few_words, add_scaled,
                        add_powers};

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
