// SPDX-License-Identifier: Apache-2.0
// All products of some rows with a packed matrix: y = x W^T + bias.
#pragma once

#include <cstdint>

#include "matrix.h"

namespace kaldi_mpq::packed {

// Rows that pass while a panel is unpacked: they stay in the second cache, and are whole multiples of what the kernels
// take together.
constexpr int64_t kBlockRows = 120;

// Writes (n, rows of w). Row i is row which[i] of x, row i if `which` is nullptr. `bias` may be nullptr. The result
// does not depend on `threads`.
void multiply(const Matrix& w, const float* bias, const float* x, const int64_t* which, int64_t n, int threads,
              float* out);

}  // namespace kaldi_mpq::packed
