// SPDX-License-Identifier: Apache-2.0
// Products of a few rows with a panel that stays packed: fields go from memory through registers into products.
//
// For one row to four, whose products would not pay for a way through memory. A block of kFieldBlock bytes holds
// vectors of four columns by half a panel, the halves in turn.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include "avx2.h"

namespace kaldi_mpq::packed {
namespace {

// Fields of the second half stay where they are in a byte, times 2^kBits, where that leaves room to add: saves a shift.
template <int kBits>
constexpr int kScaledBits = kBits <= 2 ? kBits : 0;

// Vectors of four columns that fit a sum of 16 bits.
constexpr int64_t narrow_steps(int bits) { return bits == 1 ? 64 : bits == 2 ? 16 : 8; }
static_assert(2 * 127 * 14 * narrow_steps(4) <= 32767, "4 bits");
static_assert(2 * 127 * 4 * 2 * narrow_steps(2) <= 32767, "2 bits, times 4");
static_assert(2 * 127 * 2 * 1 * narrow_steps(1) <= 32767, "1 bit, times 2");

// Weights are read once, from far away; what the processor fetches ahead ends with each page of memory.
KALDI_MPQ_AVX2 inline Vector load_ahead(const uint8_t* packed) {
  constexpr int64_t kAhead = 2048;
  _mm_prefetch(reinterpret_cast<const char*>(packed + kAhead), _MM_HINT_T0);
  return load(packed);
}

template <int kBits, int kRows>
KALDI_MPQ_AVX2 inline void bytes_rows(const int8_t* x, int64_t stride, const uint8_t* packed, int64_t columns,
                                      int32_t* sums) {
  constexpr int kPairs = 4 / kBits;  // of vectors in a block
  constexpr int64_t kNarrow = 4 * narrow_steps(kBits);
  const Vector first_mask = _mm256_set1_epi8((1 << kBits) - 1);
  const Vector second_mask = _mm256_set1_epi8(((1 << kBits) - 1) << kScaledBits<kBits>);
  const Vector ones = _mm256_set1_epi16(1);
  Vector low[kRows], high[kRows];
  for (int i = 0; i < kRows; ++i) low[i] = high[i] = _mm256_setzero_si256();
  for (int64_t begin = 0; begin < columns; begin += kNarrow) {
    const int64_t end = begin + kNarrow < columns ? begin + kNarrow : columns;
    Vector narrow_low[kRows], narrow_high[kRows];
    for (int i = 0; i < kRows; ++i) narrow_low[i] = narrow_high[i] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int64_t k = begin; k < end; k += 4 * kPairs, packed += kFieldBlock) {
      const Vector block = load_ahead(packed);
#pragma GCC unroll 4
      for (int pair = 0; pair < kPairs; ++pair) {
        const Vector fields = _mm256_srli_epi16(block, 2 * kBits * pair);
        const Vector first = _mm256_and_si256(fields, first_mask);
        const Vector second =
            _mm256_and_si256(_mm256_srli_epi16(fields, kBits - kScaledBits<kBits>), second_mask);
        for (int i = 0; i < kRows; ++i) {
          const Vector own = broadcast(x + i * stride + k + 4 * pair);
          add_bytes(narrow_low[i], first, own);
          add_bytes(narrow_high[i], second, own);
        }
      }
    }
    for (int i = 0; i < kRows; ++i) {
      low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(narrow_low[i], ones));
      high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(narrow_high[i], ones));
    }
  }
  for (int i = 0; i < kRows; ++i) {
    add_to(sums + i * kPanel, low[i]);
    add_to(sums + i * kPanel + 8, _mm256_srai_epi32(high[i], kScaledBits<kBits>));
  }
}

// Columns of even and of odd number are multiplied apart, as they lie in a field's 16 bits.
template <int kBits, int kRows>
KALDI_MPQ_AVX2 inline void words_rows(const int16_t* x, int64_t stride, const uint8_t* packed, int64_t columns,
                                      int32_t* sums) {
  constexpr int kPlaces = 8 / kBits;
  const Vector mask = _mm256_set1_epi8(static_cast<char>((1 << kBits) - 1)), even_mask = _mm256_set1_epi16(0xff);
  Vector totals[kRows][2], block;
  for (int i = 0; i < kRows; ++i) totals[i][0] = totals[i][1] = _mm256_setzero_si256();
  constexpr int kBlocks = kBits == 8 ? 2 : 1;  // that make whole panels
  for (int64_t k = 0; k < columns; k += 2 * kPlaces * kBlocks)
#pragma GCC unroll 8
    for (int at = 0; at < kBlocks * kPlaces; ++at) {
      if (at % kPlaces == 0) block = load_ahead(packed), packed += kFieldBlock;
      const Vector fields = kBits == 8 ? block : _mm256_and_si256(block, mask);
      const Vector even = _mm256_and_si256(fields, even_mask), odd = _mm256_srli_epi16(fields, 8);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) {
        const int16_t* from = x + i * stride + k + at / 2 * 4;
        add_words(totals[i][at % 2], even, broadcast(from));
        add_words(totals[i][at % 2], odd, broadcast(from + 2));
      }
      block = _mm256_srli_epi16(block, kBits);
    }
  for (int i = 0; i < kRows; ++i) {
    add_to(sums + i * kPanel, totals[i][0]);
    add_to(sums + i * kPanel + 8, totals[i][1]);
  }
}

template <int kBits>
KALDI_MPQ_AVX2 void few_bytes(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* packed, int64_t columns,
                              int32_t* sums) {
  if (rows == 1) return bytes_rows<kBits, 1>(x, stride, packed, columns, sums);
  if (rows == 2) return bytes_rows<kBits, 2>(x, stride, packed, columns, sums);
  if (rows == 3) return bytes_rows<kBits, 3>(x, stride, packed, columns, sums);
  bytes_rows<kBits, 4>(x, stride, packed, columns, sums);
}

template <int kBits>
KALDI_MPQ_AVX2 void few_words(const int16_t* x, int64_t stride, int64_t rows, const uint8_t* packed, int64_t columns,
                              int32_t* sums) {
  if (rows == 1) return words_rows<kBits, 1>(x, stride, packed, columns, sums);
  if (rows == 2) return words_rows<kBits, 2>(x, stride, packed, columns, sums);
  if (rows == 3) return words_rows<kBits, 3>(x, stride, packed, columns, sums);
  words_rows<kBits, 4>(x, stride, packed, columns, sums);
}

}  // namespace

void avx2_few_bytes(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* packed, int64_t columns, int bits,
                    int32_t* sums) {
  if (bits == 1) return few_bytes<1>(x, stride, rows, packed, columns, sums);
  if (bits == 2) return few_bytes<2>(x, stride, rows, packed, columns, sums);
  few_bytes<4>(x, stride, rows, packed, columns, sums);
}

void avx2_few_words(const int16_t* x, int64_t stride, int64_t rows, const uint8_t* packed, int64_t columns, int bits,
                    int32_t* sums) {
  if (bits == 1) return few_words<1>(x, stride, rows, packed, columns, sums);
  if (bits == 2) return few_words<2>(x, stride, rows, packed, columns, sums);
  if (bits == 4) return few_words<4>(x, stride, rows, packed, columns, sums);
  few_words<8>(x, stride, rows, packed, columns, sums);
}

}  // namespace kaldi_mpq::packed

#endif
