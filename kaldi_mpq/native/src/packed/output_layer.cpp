// SPDX-License-Identifier: Apache-2.0
#include "output_layer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "dense/parallel.h"
#include "dense/power.h"
#include "product.h"

namespace kaldi_mpq::packed {
namespace {

constexpr int64_t kSlicePanels = 64;    // 1024 words
constexpr double kNatsPerBit = 0.6931471805599453094;
constexpr double kSmallestSum = 1e-25;  // what was lost below 2^-127 is nothing beside it
constexpr float kInfinity = std::numeric_limits<float>::infinity();

double dot(const float* x, const float* w, int64_t n) {
  double lanes[8] = {};
  int64_t k = 0;
  for (; k + 8 <= n; k += 8)
    for (int64_t lane = 0; lane < 8; ++lane) lanes[lane] += static_cast<double>(x[k + lane]) * w[k + lane];
  double sum = 0.0;
  for (; k < n; ++k) sum += static_cast<double>(x[k]) * w[k];
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

OutputLayer::OutputLayer(std::shared_ptr<const Matrix> words, const float* bias, bool cheap)
    : words_(std::move(words)),
      cheap_(cheap),
      bias_(bias, bias + words_->rows()),
      panel_bias_(words_->panels() * kPanel, -kInfinity) {
  for (int64_t p = 0; p < words_->panels(); ++p)
    for (int64_t v = 0; v < words_->rows_of(p); ++v)
      panel_bias_[p * kPanel + v] = dense::kLog2E * bias_[words_->first_row(p) + v];
}

int64_t OutputLayer::slices() const { return (words_->panels() + kSlicePanels - 1) / kSlicePanels; }

// Writes what the words of a slice give for all rows.
void OutputLayer::run_slice(const Activations& rows, int64_t slice, const float* shift, Found* found) const {
  const int64_t n = rows.rows();
  const float zeros[kPanel] = {};
  Scratch scratch(n);
  dense::AlignedVector<LogSums> totals(n);
  for (LogSums& row : totals)
    for (int64_t v = 0; v < kPanel; ++v) row.sum[v] = 0.0f, row.best[v] = -kInfinity;
  for (int64_t p = slice * kSlicePanels; p < std::min((slice + 1) * kSlicePanels, words_->panels()); ++p) {
    words_->multiply(rows, p, scratch, zeros, scratch.y.data(), kPanel);
    words_->kernels().add_powers(scratch.y.data(), n, panel_bias_.data() + p * kPanel, shift, totals.data());
  }
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0.0;
    for (const float lane : totals[i].sum) sum += lane;
    found[i] = {sum, *std::max_element(totals[i].best, totals[i].best + kPanel)};
  }
}

// `shift` and `best` are (n), in bits: what is taken off a row's logits, and the largest of them before that.
void OutputLayer::log_sums_shifted(const float* hidden, const int64_t* which, int64_t n, int threads,
                                   const float* shift, double* out, float* best) const {
  Activations rows(words_->segments(), words_->forms(cheap_));
  std::vector<Found> found;
  for (int64_t begin = 0; begin < n; begin += kBlockRows) {
    const int64_t count = std::min(kBlockRows, n - begin);
    rows.pack(which == nullptr ? hidden + begin * words_->columns() : hidden,
              which == nullptr ? nullptr : which + begin, count);
    found.resize(slices() * count);
    dense::parallel(slices(), threads,
                    [&](int64_t slice) { run_slice(rows, slice, shift + begin, found.data() + slice * count); });
    for (int64_t i = 0; i < count; ++i) {
      double sum = 0.0;
      float largest = -kInfinity;
      for (int64_t slice = 0; slice < slices(); ++slice) {
        sum += found[slice * count + i].sum;
        largest = std::max(largest, found[slice * count + i].best);
      }
      best[begin + i] = largest;
      const bool in_range = sum > kSmallestSum && largest - shift[begin + i] < dense::kLargestPower;
      out[begin + i] = in_range ? std::log(sum) + kNatsPerBit * shift[begin + i] : NAN;
    }
  }
}

void OutputLayer::log_sums(const float* hidden, int64_t n, int threads, double* out) const {
  std::vector<float> shift(n, 0.0f), best(n);
  log_sums_shifted(hidden, nullptr, n, threads, shift.data(), out, best.data());
  std::vector<int64_t> again;  // logits beyond the range of the exponential: once more, the largest taken off
  std::vector<float> largest;
  for (int64_t i = 0; i < n; ++i)
    if (std::isnan(out[i]) && std::isfinite(best[i])) {
      again.push_back(i);
      largest.push_back(best[i]);
    }
  if (again.empty()) return;
  std::vector<double> sums(again.size());
  std::vector<float> unused(again.size());
  log_sums_shifted(hidden, again.data(), static_cast<int64_t>(again.size()), threads, largest.data(), sums.data(),
                   unused.data());
  for (std::size_t i = 0; i < again.size(); ++i) out[again[i]] = sums[i];
}

void OutputLayer::logits(const float* hidden, const int64_t* rows, const int64_t* words, int64_t q, int threads,
                         float* out) const {
  constexpr int64_t kQuestions = 256;
  const int64_t columns = words_->columns();
  std::vector<int64_t> order(q);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return words[a] < words[b]; });
  dense::parallel((q + kQuestions - 1) / kQuestions, threads, [&](int64_t part) {
    std::vector<float> weights(columns);
    int64_t unpacked = -1;
    for (int64_t i = part * kQuestions; i < std::min(q, (part + 1) * kQuestions); ++i) {
      const int64_t at = order[i], word = words[at];
      if (word != unpacked) words_->row(word, weights.data());
      unpacked = word;
      out[at] = static_cast<float>(dot(hidden + rows[at] * columns, weights.data(), columns) + bias_[word]);
    }
  });
}

}  // namespace kaldi_mpq::packed
