// SPDX-License-Identifier: Apache-2.0
#include "lstm_step.h"

#include <algorithm>

#include "parallel.h"

namespace kaldi_mpq::dense {

void lstm_step(const Kernels& kernels, Chosen a, Chosen b, Chosen old_cell, const float* peephole, int64_t n,
               int64_t cells, int threads, float* hidden, float* cell) {
  constexpr int64_t kRows = 64;
  parallel((n + kRows - 1) / kRows, threads, [&](int64_t part) {
    for (int64_t i = part * kRows; i < std::min(n, (part + 1) * kRows); ++i)
      kernels.lstm_cell(a.rows + a.which[i] * 4 * cells, b.rows + b.which[i] * 4 * cells,
                        old_cell.rows + old_cell.which[i] * cells, peephole, cells, hidden + i * cells,
                        cell + i * cells);
  });
}

}  // namespace kaldi_mpq::dense
