// SPDX-License-Identifier: Apache-2.0
// A weight matrix that stays packed in memory: units, ranges of rows, of 1, 2, 4 or 8 bits, or of floats, one under
// another. It is laid out once for the kernels, and unpacked a panel at a time for products with many rows.
//
// Activations are whole numbers of 2 to 8 or 16 bits, as far as sums of products stay below 2^31, or floats; those that
// meet float units are floats in any case. Not here: what the products are used for (product.h, output_layer.h).
#pragma once

#include <cstdint>
#include <vector>

#include "activations.h"
#include "dense/aligned.h"
#include "kernels.h"

namespace kaldi_mpq::packed {

// Room for one thread's work on a panel.
struct Scratch {
  explicit Scratch(int64_t rows)
      : unpacked(kChunk * kPanel), sums(rows * kPanel), float_sums(rows * kPanel), y(rows * kPanel) {}
  dense::AlignedVector<float> unpacked;  // of bytes or 16-bit integers, too
  dense::AlignedVector<int32_t> sums;
  dense::AlignedVector<float> float_sums;
  dense::AlignedVector<float> y;  // the products of a panel, for who wants them here
};

class Matrix {
 public:
  // `block` columns of a row share a scale, or all (0). `activation_bits` is 2 to 8, 16 or 32 (floats). `clip` is the
  // largest activation, the same for all rows; 0: the largest of each row. Float units want no clip.
  Matrix(int64_t columns, int64_t block, int activation_bits, float clip, const Kernels& kernels);

  // Adds `rows` rows of weights scale * code. `packed` holds the codes as model.mpq does, `scales` is (rows, segments).
  // Throws std::invalid_argument for a pattern that is no code, and bits after the last code.
  void add_codes(int bits, int64_t rows, const uint8_t* packed, int64_t bytes, const float* scales);

  // Adds `rows` rows of floats; `half`: kept as 16-bit floats, which hold them exactly.
  void add_values(int64_t rows, const float* values, bool half);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return segments_.columns; }
  int64_t panels() const { return static_cast<int64_t>(panels_.size()); }
  int64_t bytes() const;
  int activation_bits() const { return activation_bits_; }
  const Segments& segments() const { return segments_; }
  const Kernels& kernels() const { return *kernels_; }
  int64_t first_row(int64_t panel) const { return panels_[panel].first; }
  int64_t rows_of(int64_t panel) const { return panels_[panel].count; }

  // How activations must be packed. `cheap`: in 8 bits, though the matrix was made for 16; units of 8 bits do not gain
  // by it where 8-bit weights have no products of bytes.
  Forms forms(bool cheap = false) const;

  // Writes a row of weights, (columns).
  void row(int64_t row, float* out) const;

  // Writes the products of all rows of x with those of a panel, plus start, (kPanel), into rows of y that are `stride`
  // apart: kPanel numbers in each, whether or not there are so many rows in the panel.
  void multiply(const Activations& x, int64_t panel, Scratch& scratch, const float* start, float* y,
                int64_t stride) const;

  // For tests: write sums, [segment][row][kPanel], of products of whole numbers with codes; codes, (rows, columns).
  void integer_sums(const Activations& x, int64_t panel, int32_t* out) const;
  void codes(int8_t* out) const;

 private:
  enum class Kind { kBytes, kWords, kFloats };  // what fields are unpacked to; bytes and words lie alike
  struct Unit {
    int bits;  // 16 and 32: floats
    int64_t first, rows;
    Kind kind;
    dense::AlignedVector<uint8_t> data;  // [panel][segment], see place()
    std::vector<float> scales;           // [panel][segment][kPanel]
  };
  struct Panel {
    int64_t unit, place, first, count;  // `place` counts the panels of the unit
  };

  Kind kind_of(int bits, int activation_bits) const;
  int64_t bytes_of_segment(const Unit& unit) const { return segments_.padded_each() * kPanel * unit.bits / 8; }
  const uint8_t* data(const Unit& unit, int64_t place, int64_t segment) const {
    return unit.data.data() + (place * segments_.count + segment) * bytes_of_segment(unit);
  }
  Unit empty_unit(int bits, int64_t rows) const;
  void append(Unit unit);
  float value(const Unit& unit, int64_t row, int64_t segment, int64_t column) const;
  template <typename Multiply>
  void unpacked_chunks(const Unit& unit, const uint8_t* from, bool bytes, Scratch& scratch, const Multiply& each) const;
  void sum_segment(const Activations& x, const Unit& unit, int64_t place, int64_t segment, Scratch& scratch) const;

  Segments segments_;
  int activation_bits_;
  float clip_;
  const Kernels* kernels_;
  int64_t rows_ = 0;
  int32_t largest_code_ = 0;  // of all units
  std::vector<Unit> units_;
  std::vector<Panel> panels_;
};

}  // namespace kaldi_mpq::packed
