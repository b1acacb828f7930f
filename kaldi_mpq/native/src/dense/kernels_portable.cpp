// SPDX-License-Identifier: Apache-2.0
// Tiles in plain C++: the same integer sums, floats in the same order (rounded oftener where there is no fused
// multiply-add).
#include <cstring>

#include "power.h"
#include "kernels.h"

namespace kaldi_mpq::dense {
namespace {

void multiply(const int16_t* x, const int16_t* w, int64_t columns, int32_t* out) {
  std::memset(out, 0, kTileSize * sizeof *out);
  for (int64_t k = 0; k < columns; k += 2, x += 2 * kTileRows, w += 2 * kTileWords)
    for (int64_t i = 0; i < kTileRows; ++i)
      for (int64_t v = 0; v < kTileWords; ++v) {
        // Partial sums may wrap around, as they do in a register; the whole sum does not.
        const uint32_t pair =
            static_cast<uint32_t>(x[2 * i] * w[2 * v]) + static_cast<uint32_t>(x[2 * i + 1] * w[2 * v + 1]);
        int32_t& sum = out[i * kTileWords + v];
        sum = static_cast<int32_t>(static_cast<uint32_t>(sum) + pair);
      }
}

float scaled(const int32_t* sums, int64_t chunks, const float* row_scale, float scale, float shift) {
  float y = static_cast<float>(sums[0]) * row_scale[0];
  for (int64_t c = 1; c < chunks; ++c) y += static_cast<float>(sums[c * kTileSize]) * row_scale[c * kTileRows];
  return y * scale + shift;
}

float power(float x) {
  if (x < kSmallestPower) x = kSmallestPower;
  const float t = x + kRounder, f = x - (t - kRounder);
  const float p = ((((kPower5 * f + kPower4) * f + kPower3) * f + kPower2) * f + kPower1) * f + kPower0;
  uint32_t bits;
  std::memcpy(&bits, &t, sizeof bits);
  bits <<= 23;
  float whole;
  std::memcpy(&whole, &bits, sizeof whole);
  return p * whole;
}

void add_powers(const int32_t* sums, int64_t chunks, const float* row_scale, PanelScales words, int32_t panel,
                RowTotals* totals) {
  for (int64_t i = 0; i < kTileRows; ++i)
    for (int64_t v = 0; v < kTileWords; ++v) {
      RowTotals& row = totals[i];
      const float y = scaled(sums + i * kTileWords + v, chunks, row_scale + i, words.scale[v], words.shift[v]);
      row.sum[v % 8] += power(y);
      if (y > row.best[v]) {
        row.best[v] = y;
        row.best_panel[v] = panel;
      }
    }
}

float sigmoid(float x) {
  const float t = -kLog2E * x;
  return 1.0f / (1.0f + power(t > kLargestPower ? kLargestPower : t));  // NaN stays
}

float tanh(float x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

void lstm_cell(const float* a, const float* b, const float* old_cell, const float* peephole, int64_t cells,
               float* hidden, float* cell) {
  for (int64_t k = 0; k < cells; ++k) {
    const auto gate = [&](int64_t g) { return a[g * cells + k] + b[g * cells + k]; };
    const auto seen = [&](int64_t g, float by) { return peephole == nullptr ? 0.0f : peephole[g * cells + k] * by; };
    const float old = old_cell[k];
    const float fresh = sigmoid(gate(0) + seen(0, old)) * tanh(gate(2));
    const float c = sigmoid(gate(1) + seen(1, old)) * old + fresh;
    cell[k] = c;
    hidden[k] = sigmoid(gate(3) + seen(2, c)) * tanh(c);
  }
}

constexpr Kernels kPortable{"portable", multiply, add_powers, lstm_cell};

}  // namespace

const Kernels& portable_kernels() { return kPortable; }

}  // namespace kaldi_mpq::dense
