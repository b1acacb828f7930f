// SPDX-License-Identifier: Apache-2.0
// Tiles with AVX2 and FMA: 12 accumulators, 2 vectors of w, x broadcast from memory, one temporary: all 16 registers.
//
// The inner loop is in assembler because a compiler that finds no free register spills, which costs a third of the
// speed. Per two columns: 8 loads, 12 vpmaddwd, 12 vpaddd for 192 products.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include "power.h"

#define KALDI_MPQ_AVX2 __attribute__((target("avx2,fma")))

namespace kaldi_mpq::dense {
namespace {

// One row of x times both vectors of w.
#define KALDI_MPQ_ROW(offset, low, high)            \
  "vpbroadcastd " offset "(%[x]), %%ymm14\n\t"      \
  "vpmaddwd %%ymm12, %%ymm14, %%ymm15\n\t"          \
  "vpmaddwd %%ymm13, %%ymm14, %%ymm14\n\t"          \
  "vpaddd %%ymm15, %%ymm" low ", %%ymm" low "\n\t"  \
  "vpaddd %%ymm14, %%ymm" high ", %%ymm" high "\n\t"

#define KALDI_MPQ_COLUMNS(w0, w1, x0, x1, x2, x3, x4, x5) \
  "vmovdqa " w0 "(%[w]), %%ymm12\n\t"                     \
  "vmovdqa " w1 "(%[w]), %%ymm13\n\t"                     \
  KALDI_MPQ_ROW(x0, "0", "1")                             \
  KALDI_MPQ_ROW(x1, "2", "3")                             \
  KALDI_MPQ_ROW(x2, "4", "5")                             \
  KALDI_MPQ_ROW(x3, "6", "7")                             \
  KALDI_MPQ_ROW(x4, "8", "9")                             \
  KALDI_MPQ_ROW(x5, "10", "11")

KALDI_MPQ_AVX2 void multiply(const int16_t* x, const int16_t* w, int64_t columns, int32_t* out) {
  int64_t steps = columns / 8;
  asm volatile(
      "vpxor %%ymm0, %%ymm0, %%ymm0\n\t"
      "vpxor %%ymm1, %%ymm1, %%ymm1\n\t"
      "vpxor %%ymm2, %%ymm2, %%ymm2\n\t"
      "vpxor %%ymm3, %%ymm3, %%ymm3\n\t"
      "vpxor %%ymm4, %%ymm4, %%ymm4\n\t"
      "vpxor %%ymm5, %%ymm5, %%ymm5\n\t"
      "vpxor %%ymm6, %%ymm6, %%ymm6\n\t"
      "vpxor %%ymm7, %%ymm7, %%ymm7\n\t"
      "vpxor %%ymm8, %%ymm8, %%ymm8\n\t"
      "vpxor %%ymm9, %%ymm9, %%ymm9\n\t"
      "vpxor %%ymm10, %%ymm10, %%ymm10\n\t"
      "vpxor %%ymm11, %%ymm11, %%ymm11\n\t"
      ".p2align 5\n"
      "1:\n\t"
      KALDI_MPQ_COLUMNS("0", "32", "0", "4", "8", "12", "16", "20")
      KALDI_MPQ_COLUMNS("64", "96", "24", "28", "32", "36", "40", "44")
      KALDI_MPQ_COLUMNS("128", "160", "48", "52", "56", "60", "64", "68")
      KALDI_MPQ_COLUMNS("192", "224", "72", "76", "80", "84", "88", "92")
      "addq $96, %[x]\n\t"
      "addq $256, %[w]\n\t"
      "decq %[steps]\n\t"
      "jnz 1b\n\t"
      "vmovdqa %%ymm0, (%[out])\n\t"
      "vmovdqa %%ymm1, 32(%[out])\n\t"
      "vmovdqa %%ymm2, 64(%[out])\n\t"
      "vmovdqa %%ymm3, 96(%[out])\n\t"
      "vmovdqa %%ymm4, 128(%[out])\n\t"
      "vmovdqa %%ymm5, 160(%[out])\n\t"
      "vmovdqa %%ymm6, 192(%[out])\n\t"
      "vmovdqa %%ymm7, 224(%[out])\n\t"
      "vmovdqa %%ymm8, 256(%[out])\n\t"
      "vmovdqa %%ymm9, 288(%[out])\n\t"
      "vmovdqa %%ymm10, 320(%[out])\n\t"
      "vmovdqa %%ymm11, 352(%[out])\n\t"
      "vzeroupper\n\t"
      : [x] "+r"(x), [w] "+r"(w), [steps] "+r"(steps)
      : [out] "r"(out)
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

// Returns y of half a row of a tile: `at` counts from the tile's first sum.
KALDI_MPQ_AVX2 inline __m256 scaled(const int32_t* sums, int64_t at, int64_t chunks, const float* row_scale,
                                    __m256 scale, __m256 shift) {
  const auto load = [&](int64_t c) KALDI_MPQ_AVX2 {
    return _mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums + c * kTileSize + at)));
  };
  __m256 y = _mm256_mul_ps(load(0), _mm256_broadcast_ss(row_scale));
  for (int64_t c = 1; c < chunks; ++c)
    y = _mm256_fmadd_ps(load(c), _mm256_broadcast_ss(row_scale + c * kTileRows), y);
  return _mm256_fmadd_ps(y, scale, shift);
}

KALDI_MPQ_AVX2 inline __m256 power(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(kSmallestPower), x);  // in this order NaN stays
  const __m256 t = _mm256_add_ps(x, _mm256_set1_ps(kRounder));
  const __m256 f = _mm256_sub_ps(x, _mm256_sub_ps(t, _mm256_set1_ps(kRounder)));
  __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(kPower5), f, _mm256_set1_ps(kPower4));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kPower3));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kPower2));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kPower1));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kPower0));
  return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}

KALDI_MPQ_AVX2 void add_powers(const int32_t* sums, int64_t chunks, const float* row_scale, PanelScales words,
                               int32_t panel, RowTotals* totals) {
  const __m256i number = _mm256_set1_epi32(panel);
  for (int64_t half = 0; half < kTileWords; half += 8) {
    const __m256 scale = _mm256_loadu_ps(words.scale + half), shift = _mm256_loadu_ps(words.shift + half);
    for (int64_t i = 0; i < kTileRows; ++i) {
      RowTotals& row = totals[i];
      const __m256 y = scaled(sums, i * kTileWords + half, chunks, row_scale + i, scale, shift);
      _mm256_storeu_ps(row.sum, _mm256_add_ps(_mm256_loadu_ps(row.sum), power(y)));
      const __m256 best = _mm256_loadu_ps(row.best + half);
      const __m256 better = _mm256_cmp_ps(y, best, _CMP_GT_OQ);
      _mm256_storeu_ps(row.best + half, _mm256_blendv_ps(best, y, better));
      __m256i* where = reinterpret_cast<__m256i*>(row.best_panel + half);
      _mm256_storeu_si256(where, _mm256_blendv_epi8(_mm256_loadu_si256(where), number, _mm256_castps_si256(better)));
    }
  }
}

KALDI_MPQ_AVX2 inline __m256 sigmoid(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 t = _mm256_min_ps(_mm256_set1_ps(kLargestPower), _mm256_mul_ps(x, _mm256_set1_ps(-kLog2E)));
  return _mm256_div_ps(one, _mm256_add_ps(one, power(t)));
}

KALDI_MPQ_AVX2 inline __m256 tanh(__m256 x) {
  const __m256 two = _mm256_set1_ps(2.0f);
  return _mm256_fmsub_ps(two, sigmoid(_mm256_mul_ps(two, x)), _mm256_set1_ps(1.0f));
}

// Eight cells at a time; the last ones, fewer than eight, through a mask.
KALDI_MPQ_AVX2 void lstm_cell(const float* a, const float* b, const float* old_cell, const float* peephole,
                              int64_t cells, float* hidden, float* cell) {
  alignas(32) static constexpr int32_t kMasks[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
  for (int64_t k = 0; k < cells; k += 8) {
    const int64_t missing = k + 8 > cells ? k + 8 - cells : 0;
    const __m256i mask = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMasks + missing));
    const auto gate = [&](int64_t g) KALDI_MPQ_AVX2 {
      const int64_t at = g * cells + k;
      return _mm256_add_ps(_mm256_maskload_ps(a + at, mask), _mm256_maskload_ps(b + at, mask));
    };
    const auto seen = [&](int64_t g, __m256 x, __m256 by) KALDI_MPQ_AVX2 {
      return peephole == nullptr ? x : _mm256_fmadd_ps(_mm256_maskload_ps(peephole + g * cells + k, mask), by, x);
    };
    const __m256 old = _mm256_maskload_ps(old_cell + k, mask);
    const __m256 fresh = _mm256_mul_ps(sigmoid(seen(0, gate(0), old)), tanh(gate(2)));
    const __m256 c = _mm256_fmadd_ps(sigmoid(seen(1, gate(1), old)), old, fresh);
    _mm256_maskstore_ps(cell + k, mask, c);
    _mm256_maskstore_ps(hidden + k, mask, _mm256_mul_ps(sigmoid(seen(2, gate(3), c)), tanh(c)));
  }
}

constexpr Kernels kAvx2{"avx2", multiply, add_powers, lstm_cell};

}  // namespace

const Kernels* avx2_kernels() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kAvx2 : nullptr;
}

}  // namespace kaldi_mpq::dense

#else

namespace kaldi_mpq::dense {

const Kernels* avx2_kernels() { return nullptr; }

}  // namespace kaldi_mpq::dense

#endif
