// SPDX-License-Identifier: Apache-2.0
#include "packed_rows.h"

namespace kaldi_mpq::dense {

PackedRows::PackedRows(int64_t most_rows, const Chunks& chunks)
    : chunks_(chunks),
      codes_((most_rows + kTileRows - 1) / kTileRows * kTileRows * chunks.padded(), 0),
      scales_((most_rows + kTileRows - 1) / kTileRows * kTileRows * chunks.count, 0.0f) {}

void PackedRows::pack(const float* x, int64_t n, int64_t columns) {
  groups_ = (n + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < groups_ * kTileRows; ++i) pack_row(i < n ? x + i * columns : nullptr, i, columns);
}

void PackedRows::pack_row(const float* x, int64_t row, int64_t columns) {
  const int64_t group = row / kTileRows, member = row % kTileRows;
  for (int64_t c = 0; c < chunks_.count; ++c) {
    const int64_t begin = c * chunks_.columns;
    const int64_t n = x == nullptr ? 0 : std::clamp<int64_t>(columns - begin, 0, chunks_.columns);
    const float* from = x + (n > 0 ? begin : 0);
    const float found = fitting_factor(from, n, kLargestRowNorm);
    const float factor = std::isfinite(found) ? found : 0.0f;
    scales_[(group * chunks_.count + c) * kTileRows + member] = factor > 0.0f ? 1.0f / factor : found * 0.0f;
    int16_t* to = codes_.data() + (group * chunks_.padded() + begin) * kTileRows + member * 2;
    int16_t codes[kLongestChunk] = {};
    for (int64_t k = 0; k < n; ++k) codes[k] = code_of(from[k], factor);
    for (int64_t k = 0; k < chunks_.columns; k += 2) std::memcpy(to + k * kTileRows, codes + k, 2 * sizeof *codes);
  }
}

}  // namespace kaldi_mpq::dense
