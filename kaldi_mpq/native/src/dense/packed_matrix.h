// SPDX-License-Identifier: Apache-2.0
// The rows w_v of a weight matrix in 16-bit integers, laid out for tiles, with a bias each. Made once per model.
//
// A row has one factor for all its chunks. Panels of kTileWords rows lie one after the other: [panel][chunk]
// [column pair][row of the panel][2].
#pragma once

#include "aligned.h"
#include "quantize.h"
#include "kernels.h"

namespace kaldi_mpq::dense {

class PackedMatrix {
 public:
  // `weight` is (rows, columns). Values y are multiplied by `unit`: log2(e) gives logits whose powers of 2 are wanted.
  // Rows that only fill the last panel get `filler` for a bias. Throws std::invalid_argument if a value is not finite.
  PackedMatrix(const float* weight, const float* bias, int64_t rows, int64_t columns, double unit, float filler);

  // The code of one weight.
  int16_t code(int64_t row, int64_t column) const {
    return codes(row / kTileWords)[(column / 2 * kTileWords + row % kTileWords) * 2 + column % 2];
  }

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t panels() const { return panels_; }
  const Chunks& chunks() const { return chunks_; }
  const int16_t* codes(int64_t panel) const { return codes_.data() + panel * kTileWords * chunks_.padded(); }
  PanelScales scales(int64_t panel) const {
    return {scale_.data() + panel * kTileWords, shift_.data() + panel * kTileWords};
  }

 private:
  int64_t rows_, columns_, panels_;
  Chunks chunks_;
  AlignedVector<int16_t> codes_;
  AlignedVector<float> scale_, shift_;
};

}  // namespace kaldi_mpq::dense
