// SPDX-License-Identifier: Apache-2.0
// Rows x_i of activations as the kernels take them: whole numbers with one scale a row, or floats.
//
// Columns come in segments, within which weights have one scale; each is filled up to whole steps with zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "dense/aligned.h"
#include "kernels.h"

namespace kaldi_mpq::packed {

struct Segments {
  int64_t columns, each, count;

  // `block` columns share a scale; 0: all of them.
  static Segments of(int64_t columns, int64_t block) {
    const int64_t each = block > 0 ? std::min(block, columns) : columns;
    return {columns, each, (columns + each - 1) / each};
  }
  int64_t size(int64_t segment) const { return std::min(each, columns - segment * each); }
  int64_t padded_each() const { return (each + kColumnStep - 1) / kColumnStep * kColumnStep; }
  int64_t padded() const { return count * padded_each(); }
};

// Which forms of the rows are wanted, and the largest whole number in them: what the largest value of a row becomes, or
// what the clip becomes where there is one, and values beyond it too.
struct Forms {
  bool bytes = false, words = false, floats = false;
  int32_t limit = 127;
  float clip = 0.0f;
};

class Activations {
 public:
  Activations(const Segments& segments, const Forms& forms) : segments_(segments), forms_(forms) {}

  // Takes n rows of `columns` floats: rows which[0], which[1], ... of x, or the first n if `which` is nullptr. A row
  // that is not finite has a scale of NaN, and zeros.
  void pack(const float* x, const int64_t* which, int64_t n);

  int64_t rows() const { return rows_; }
  int64_t stride() const { return segments_.padded(); }
  const int8_t* bytes(int64_t row) const { return bytes_.data() + row * stride(); }
  const int16_t* words(int64_t row) const { return words_.data() + row * stride(); }  // see word_place
  const float* floats(int64_t row) const { return floats_.data() + row * stride(); }
  const float* scales() const { return scales_.data(); }                           // (rows)
  const int32_t* sums(int64_t row) const { return sums_.data() + row * segments_.count; }  // of each segment's numbers
  const Forms& forms() const { return forms_; }

 private:
  void pack_row(const float* x, int64_t row);
  void pack_numbers(const float* x, int64_t row);

  Segments segments_;
  Forms forms_;
  int64_t rows_ = 0;
  dense::AlignedVector<int8_t> bytes_;
  dense::AlignedVector<int16_t> words_;
  dense::AlignedVector<float> floats_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
};

}  // namespace kaldi_mpq::packed
