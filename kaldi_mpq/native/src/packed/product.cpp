// SPDX-License-Identifier: Apache-2.0
#include "product.h"

#include <algorithm>

#include "dense/parallel.h"

namespace kaldi_mpq::packed {
namespace {

constexpr int64_t kWorthAThread = 1 << 19;  // products

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
      dense::AlignedVector<float> y(count * kPanel);
      for (int64_t p = w.panels() * part / parts; p < w.panels() * (part + 1) / parts; ++p) {
        w.multiply(rows, 0, count, p, scratch, y.data());
        const int64_t first = w.first_row(p), width = w.rows_of(p);
        for (int64_t i = 0; i < count; ++i) {
          float* to = out + (begin + i) * w.rows() + first;
          for (int64_t v = 0; v < width; ++v) to[v] = y[i * kPanel + v] + (bias == nullptr ? 0.0f : bias[first + v]);
        }
      }
    });
  }
}

}  // namespace kaldi_mpq::packed
