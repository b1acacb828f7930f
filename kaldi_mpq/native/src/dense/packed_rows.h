// SPDX-License-Identifier: Apache-2.0
// Some rows x_i in 16-bit integers, laid out for tiles; each chunk of a row has a factor of its own.
//
// Groups of kTileRows rows lie one after the other: [group][chunk][column pair][row of the group][2].
#pragma once

#include "aligned.h"
#include "quantize.h"
#include "kernels.h"

namespace kaldi_mpq::dense {

class PackedRows {
 public:
  PackedRows(int64_t most_rows, const Chunks& chunks);

  // Takes n <= most_rows rows of `columns` floats. Rows up to the next whole group are zero.
  void pack(const float* x, int64_t n, int64_t columns);

  // The code of one value.
  int16_t code(int64_t row, int64_t column) const {
    return codes(row / kTileRows)[(column / 2 * kTileRows + row % kTileRows) * 2 + column % 2];
  }

  int64_t groups() const { return groups_; }
  const int16_t* codes(int64_t group) const { return codes_.data() + group * kTileRows * chunks_.padded(); }
  // [chunk][kTileRows]: what one unit of a row's chunk is worth; NaN where the row is not finite.
  const float* scales(int64_t group) const { return scales_.data() + group * kTileRows * chunks_.count; }

 private:
  void pack_row(const float* x, int64_t row, int64_t columns);

  Chunks chunks_;
  int64_t groups_ = 0;
  AlignedVector<int16_t> codes_;
  AlignedVector<float> scales_;
};

}  // namespace kaldi_mpq::dense
