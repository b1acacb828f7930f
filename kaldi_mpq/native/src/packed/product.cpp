// SPDX-License-Identifier: Apache-2.0
#include "product.h"

#include <algorithm>

#include "dense/parallel.h"

namespace kaldi_mpq::packed {
namespace {

constexpr int64_t kWorthAThread = 1 << 19;  // products

// Writes the products of a panel into rows of out, (n, rows of w).
void multiply_panel(const Matrix& w, const Activations& x, int64_t panel, const float* bias, Scratch& scratch,
                    float* out) {
  const int64_t first = w.first_row(panel), width = w.rows_of(panel);
  float start[kPanel] = {};
  if (bias != nullptr) std::copy_n(bias + first, width, start);
  if (width == kPanel) return w.multiply(x, panel, scratch, start, out + first, w.rows());
  w.multiply(x, panel, scratch, start, scratch.y.data(), kPanel);
  for (int64_t i = 0; i < x.rows(); ++i)
    std::copy_n(scratch.y.data() + i * kPanel, width, out + i * w.rows() + first);
}

}  // namespace

void multiply(const Matrix& w, const float* bias, const float* x, const int64_t* which, int64_t n, int threads,
              float* out) {
  if (n == 0) return;
  Activations rows(w.segments(), w.forms());
  const int64_t most = std::max<int64_t>(1, n * w.rows() * w.columns() / kWorthAThread);
  const int64_t parts = std::min<int64_t>({4 * threads, w.panels(), threads > 1 ? most : 1});
  for (int64_t begin = 0; begin < n; begin += kBlockRows) {
    const int64_t count = std::min(kBlockRows, n - begin);
    rows.pack(which == nullptr ? x + begin * w.columns() : x, which == nullptr ? nullptr : which + begin, count);
    dense::parallel(parts, threads, [&](int64_t part) {
      Scratch scratch(count);
      for (int64_t p = w.panels() * part / parts; p < w.panels() * (part + 1) / parts; ++p)
        multiply_panel(w, rows, p, bias, scratch, out + begin * w.rows());
    });
  }
}

}  // namespace kaldi_mpq::packed
