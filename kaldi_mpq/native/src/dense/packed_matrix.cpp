// SPDX-License-Identifier: Apache-2.0
#include "packed_matrix.h"

#include <limits>
#include <stdexcept>
#include <string>

namespace kaldi_mpq::dense {
namespace {

// Returns the factor that suits every chunk of a row.
float row_factor(const float* row, int64_t columns, const Chunks& chunks) {
  float factor = std::numeric_limits<float>::infinity();
  for (int64_t begin = 0; begin < columns; begin += chunks.columns) {
    const float own = fitting_factor(row + begin, std::min(chunks.columns, columns - begin), kLargestWordNorm);
    if (!std::isfinite(own)) return own;
    if (own > 0.0f) factor = std::min(factor, own);
  }
  return std::isfinite(factor) ? factor : 0.0f;
}

}  // namespace

PackedMatrix::PackedMatrix(const float* weight, const float* bias, int64_t rows, int64_t columns, double unit,
                           float filler)
    : rows_(rows),
      columns_(columns),
      panels_((rows + kTileWords - 1) / kTileWords),
      chunks_(Chunks::of(columns)),
      codes_(panels_ * kTileWords * chunks_.padded(), 0),
      scale_(panels_ * kTileWords, 0.0f),
      shift_(panels_ * kTileWords, filler) {
  for (int64_t v = 0; v < rows; ++v) {
    const float* row = weight + v * columns;
    const float factor = row_factor(row, columns, chunks_);
    if (!std::isfinite(factor) || !std::isfinite(bias[v]))
      throw std::invalid_argument("row " + std::to_string(v) + " of the matrix or its bias is not finite");
    scale_[v] = factor > 0.0f ? static_cast<float>(unit / factor) : 0.0f;
    shift_[v] = static_cast<float>(unit * bias[v]);
    int16_t* panel = codes_.data() + v / kTileWords * kTileWords * chunks_.padded();
    for (int64_t k = 0; k < columns; ++k)
      panel[(k / 2 * kTileWords + v % kTileWords) * 2 + k % 2] = code_of(row[k], factor);
  }
}

}  // namespace kaldi_mpq::dense
