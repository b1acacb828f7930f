// SPDX-License-Identifier: Apache-2.0
// What the kernels for AVX2 share: loads, and sums of products in the accumulator's own register.
//
// A multiplication and its addition are one piece of assembler: left to itself the compiler copies accumulators about,
// which takes half of the speed. For files that are compiled for processors with GCC's x86 intrinsics only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define KALDI_MPQ_AVX2 __attribute__((target("avx2,fma")))

namespace kaldi_mpq::packed {

using Vector = __m256i;

KALDI_MPQ_AVX2 inline Vector load(const void* from) { return _mm256_loadu_si256(static_cast<const Vector*>(from)); }

KALDI_MPQ_AVX2 inline void store(void* to, Vector x) { _mm256_storeu_si256(static_cast<Vector*>(to), x); }

KALDI_MPQ_AVX2 inline Vector broadcast(const void* four_bytes) {
  int32_t value;
  __builtin_memcpy(&value, four_bytes, sizeof value);
  return _mm256_set1_epi32(value);
}

KALDI_MPQ_AVX2 inline void add_to(int32_t* sums, Vector x) { store(sums, _mm256_add_epi32(load(sums), x)); }

// sum += the sums of two neighbours' products, in lanes of 16 bits.
KALDI_MPQ_AVX2 inline void add_bytes(Vector& sum, Vector fields, Vector x) {
  Vector products;
  asm("vpmaddubsw %[x], %[fields], %[products]\n\tvpaddw %[products], %[sum], %[sum]"
      : [sum] "+x"(sum), [products] "=&x"(products)
      : [fields] "x"(fields), [x] "x"(x));
}

// The same in lanes of 32 bits.
KALDI_MPQ_AVX2 inline void add_words(Vector& sum, Vector fields, Vector x) {
  Vector products;
  asm("vpmaddwd %[x], %[fields], %[products]\n\tvpaddd %[products], %[sum], %[sum]"
      : [sum] "+x"(sum), [products] "=&x"(products)
      : [fields] "x"(fields), [x] "x"(x));
}

}  // namespace kaldi_mpq::packed
