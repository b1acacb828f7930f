// SPDX-License-Identifier: Apache-2.0
// What depends on the processor: unpacking a few rows of weights, and their products with rows of activations.
//
// Weights come in panels of kPanel rows. A weight's code is step * field - offset, its field an unsigned number of 1,
// 2, 4 or 8 bits; products are of fields, and what the offset adds is taken off afterwards, from the sum of the
// activations. Integer sums are 32-bit numbers, exact modulo 2^32, so that they are the same on every processor and in
// any order. Not here: how weights lie in memory (matrix.h), and rows of activations (activations.h).
#pragma once

#include <cstdint>

namespace kaldi_mpq::packed {

constexpr int64_t kPanel = 16;       // rows of weights that are unpacked and multiplied together
constexpr int64_t kColumnStep = 16;  // columns are filled up to whole multiples of this
constexpr int64_t kChunk = 256;      // columns that are unpacked at a time: they stay in the first cache
constexpr int64_t kFieldBlock = 32;  // bytes: their fields at place 0 are followed by those at place 1, and so on

// What a history gathers while panels of words pass, for each place in a panel: sums of 2^(y - shift), the largest y.
struct LogSums {
  float sum[kPanel];
  float best[kPanel];
};

struct Kernels {
  const char* name;
  bool multiplies_8_bits;  // multiply_bytes takes fields of 8 bits too

  // Write `count` fields, a multiple of 8 * kFieldBlock, as bytes, as 16-bit integers, or as floats that are the codes.
  void (*unpack_bytes)(const uint8_t* packed, int bits, int64_t count, uint8_t* out);
  void (*unpack_words)(const uint8_t* packed, int bits, int64_t count, int16_t* out);
  void (*unpack_floats)(const uint8_t* packed, int bits, int64_t count, float* out);

  // Add to sums, [row][kPanel], the products of `rows` rows of x, `stride` numbers apart, with a panel of `columns`
  // columns, a multiple of kColumnStep. Fields lie as [column / 4][kPanel][4] (bytes), [place / 2][kPanel][2] (16-bit
  // integers; see word_place) and [column][kPanel] (floats). Bytes of x are from -127 to 127.
  void (*multiply_bytes)(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* fields, int64_t columns,
                         int bits, int32_t* sums);
  void (*multiply_words)(const int16_t* x, int64_t stride, int64_t rows, const int16_t* fields, int64_t columns,
                         int32_t* sums);
  void (*multiply_floats)(const float* x, int64_t stride, int64_t rows, const float* codes, int64_t columns,
                          float* sums);

  // The same of at most few_rows rows, a panel's fields packed, of 4 bits or less where x is of bytes. 0: there are none.
  int64_t few_rows;
  void (*multiply_few_bytes)(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* packed, int64_t columns,
                             int bits, int32_t* sums);
  void (*multiply_few_words)(const int16_t* x, int64_t stride, int64_t rows, const uint8_t* packed, int64_t columns,
                             int bits, int32_t* sums);

  // y_iv = start_v + x_scale_i * scale_v * (step * sum_iv - offset * x_sum_i), sums [row][kPanel], x_sum `stride` apart,
  // rows of y `y_stride`. No start: y_iv itself.
  void (*add_scaled)(const int32_t* sums, int64_t rows, int bits, const int32_t* x_sum, int64_t stride,
                     const float* x_scale, const float* scale, const float* start, float* y, int64_t y_stride);

  // Adds log2(e) y_iv + bias_v to the totals of row i.
  void (*add_powers)(const float* y, int64_t rows, const float* bias, const float* shift, LogSums* totals);
};

// Where 16-bit integers of a column are, in x and in unpacked fields: the second and the third of four change places,
// so that unpacking from bytes is a mask and a shift.
constexpr int64_t word_place(int64_t column) {
  return column % 4 == 1 ? column + 1 : column % 4 == 2 ? column - 1 : column;
}

// code = step * field - offset: 1 bit -1 and 1, others symmetric about 0.
constexpr int32_t field_step(int bits) { return bits == 1 ? 2 : 1; }
constexpr int32_t field_offset(int bits) { return bits == 1 ? 1 : (1 << (bits - 1)) - 1; }
constexpr int32_t largest_code(int bits) { return field_offset(bits); }

// The fastest kernels that this processor runs.
const Kernels& best_kernels();

// Those of that name (vnni, avx2, portable); nullptr where there are none or the processor lacks the instructions.
const Kernels* kernels_named(const char* name);

const Kernels& portable_kernels();
const Kernels* avx2_kernels();
const Kernels* vnni_kernels();

// Those for few rows that AVX2 and AVX-512 share, for processors that have the former.
constexpr int64_t kFewRows = 4;
void avx2_few_bytes(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* packed, int64_t columns, int bits,
                    int32_t* sums);
void avx2_few_words(const int16_t* x, int64_t stride, int64_t rows, const uint8_t* packed, int64_t columns, int bits,
                    int32_t* sums);

}  // namespace kaldi_mpq::packed
