// SPDX-License-Identifier: Apache-2.0
// The elementwise part of an LSTM's step for many histories, in one pass.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace kaldi_mpq::dense {

// Rows of a matrix, each history's by number.
struct Chosen {
  const float* rows;
  const int64_t* which;  // (N)
};

// Writes (N, cells) hidden and cell vectors. Gates of a history are the sum of a row of `a` and one of `b`, (4 * cells)
// each: input, forget, cell, output. `peephole` is (3 * cells), or nullptr where gates do not see cells.
void lstm_step(const Kernels& kernels, Chosen a, Chosen b, Chosen old_cell, const float* peephole, int64_t n,
               int64_t cells, int threads, float* hidden, float* cell);

}  // namespace kaldi_mpq::dense
