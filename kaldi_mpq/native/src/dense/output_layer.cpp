// SPDX-License-Identifier: Apache-2.0
#include "output_layer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "parallel.h"
#include "power.h"

namespace kaldi_mpq::dense {
namespace {

constexpr int64_t kBlockRows = 192;    // 192 kB of 512 columns: they stay in the second cache while words pass
constexpr int64_t kSlicePanels = 64;   // 1024 words
constexpr double kBitsPerNat = 1.4426950408889634074;
constexpr float kFiller = -1000.0f;    // logit of words that only fill the last panel
constexpr double kSmallestSum = 1e-25; // what is lost below 2^-127 is nothing beside it

RowTotals nothing() {
  RowTotals totals{};
  for (float& best : totals.best) best = -std::numeric_limits<float>::infinity();
  return totals;
}

double dot(const float* x, const float* w, int64_t n) {
  double lanes[16] = {};
  int64_t k = 0;
  for (; k + 16 <= n; k += 16)
    for (int64_t lane = 0; lane < 16; ++lane) lanes[lane] += static_cast<double>(x[k + lane]) * w[k + lane];
  double sum = 0.0;
  for (; k < n; ++k) sum += static_cast<double>(x[k]) * w[k];
  for (const double lane : lanes) sum += lane;
  return sum;
}

// A word that may have a large share of a row's sum: y is its logit, times log2(e), from the integers.
struct Candidate {
  int64_t row, word;
  float y;
};

}  // namespace

// Some rows, and what the parts of the vocabulary have given for them.
struct OutputLayer::Block {
  int64_t begin, rows;
  std::vector<double> slice_sums;                  // [slice][padded row]
  std::vector<std::vector<Candidate>> candidates;  // [part], slices in order
  int64_t padded() const { return (rows + kTileRows - 1) / kTileRows * kTileRows; }
};

OutputLayer::OutputLayer(const float* weight, const float* bias, int64_t words, int64_t columns, const Kernels& kernels)
    : weight_(weight), bias_(bias), matrix_(weight, bias, words, columns, kBitsPerNat, kFiller), kernels_(&kernels) {}

int64_t OutputLayer::slices() const { return (matrix_.panels() + kSlicePanels - 1) / kSlicePanels; }

void OutputLayer::log_sums(const float* hidden, int64_t n, int threads, double* out) const {
  if (n == 0) return;
  const int64_t count = (n + kBlockRows - 1) / kBlockRows;
  const int64_t each = ((n + count - 1) / count + kTileRows - 1) / kTileRows * kTileRows;
  const int64_t wanted = threads > 1 ? (4 * threads + count - 1) / count : 1;  // enough pieces to share evenly
  const int64_t parts = std::min(slices(), wanted);
  std::vector<Block> blocks;
  for (int64_t begin = 0; begin < n; begin += each) {
    Block block{begin, std::min(each, n - begin), {}, {}};
    block.slice_sums.resize(slices() * block.padded());
    block.candidates.resize(parts);
    blocks.push_back(std::move(block));
  }
  const int64_t found = static_cast<int64_t>(blocks.size());
  parallel(found * parts, threads, [&](int64_t i) { run(hidden, blocks[i / parts], i % parts, parts); });
  parallel(found, threads, [&](int64_t b) { finish(hidden, blocks[b], out); });
}

// Writes [chunk][kTileSize] sums of a group of rows and a panel of words.
void OutputLayer::multiply(const PackedRows& rows, int64_t group, int64_t panel, int32_t* sums) const {
  const Chunks& chunks = matrix_.chunks();
  for (int64_t c = 0; c < chunks.count; ++c)
    kernels_->multiply(rows.codes(group) + c * chunks.columns * kTileRows,
                       matrix_.codes(panel) + c * chunks.columns * kTileWords, chunks.columns, sums + c * kTileSize);
}

void OutputLayer::run(const float* hidden, Block& block, int64_t part, int64_t parts) const {
  const Chunks& chunks = matrix_.chunks();
  PackedRows rows(block.rows, chunks);
  rows.pack(hidden + block.begin * columns(), block.rows, columns());
  std::vector<RowTotals> totals(block.padded(), nothing());
  AlignedVector<int32_t> sums(chunks.count * kTileSize);
  for (int64_t slice = slices() * part / parts; slice < slices() * (part + 1) / parts; ++slice) {
    const int64_t end = std::min((slice + 1) * kSlicePanels, matrix_.panels());
    for (int64_t panel = slice * kSlicePanels; panel < end; ++panel)
      for (int64_t group = 0; group < rows.groups(); ++group) {
        multiply(rows, group, panel, sums.data());
        kernels_->add_powers(sums.data(), chunks.count, rows.scales(group), matrix_.scales(panel),
                             static_cast<int32_t>(panel), totals.data() + group * kTileRows);
      }
    end_slice(block, part, slice, totals);
  }
}

// Puts the totals of a slice into the block and clears them.
void OutputLayer::end_slice(Block& block, int64_t part, int64_t slice, std::vector<RowTotals>& totals) const {
  for (int64_t i = 0; i < block.padded(); ++i) {
    double sum = 0.0;
    for (const float lane : totals[i].sum) sum += lane;
    if (*std::max_element(totals[i].best, totals[i].best + kTileWords) > kLargestPower) sum = NAN;
    block.slice_sums[slice * block.padded() + i] = sum;
    // The whole sum is no less than the slice's, so that no word with a large share of the whole is passed over. What
    // is below kSmallestPower was added as 0. NaN compares as false.
    const double least = std::max<double>(std::log2(kLikely * sum), kSmallestPower);
    for (int64_t v = 0; i < block.rows && sum > 0.0 && v < kTileWords; ++v)
      if (totals[i].best[v] >= least)
        block.candidates[part].push_back({i, totals[i].best_panel[v] * kTileWords + v, totals[i].best[v]});
    totals[i] = nothing();
  }
}

void OutputLayer::finish(const float* hidden, const Block& block, double* out) const {
  std::vector<double> sums(block.padded(), 0.0), corrections(block.padded(), 0.0);
  for (int64_t slice = 0; slice < slices(); ++slice)
    for (int64_t i = 0; i < block.padded(); ++i) sums[i] += block.slice_sums[slice * block.padded() + i];
  for (const std::vector<Candidate>& part : block.candidates)
    for (const Candidate& likely : part) {
      const double approximate = std::exp2(static_cast<double>(likely.y));
      if (approximate < kLikely * sums[likely.row]) continue;
      const double logit = dot(hidden + (block.begin + likely.row) * columns(), weight_ + likely.word * columns(),
                               columns()) + bias_[likely.word];
      corrections[likely.row] += std::exp(logit) - approximate;
    }
  for (int64_t i = 0; i < block.rows; ++i) {
    const bool in_range = sums[i] > kSmallestSum && sums[i] < std::numeric_limits<float>::max();  // neither is NaN
    out[block.begin + i] = in_range ? std::log(sums[i] + corrections[i]) : NAN;
  }
}

void OutputLayer::integer_sums(const float* hidden, int64_t n, int32_t* out) const {
  PackedRows rows(n, chunks());
  rows.pack(hidden, n, columns());
  AlignedVector<int32_t> sums(chunks().count * kTileSize);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t v = 0; v < words(); ++v) {
      if (v % kTileWords == 0) multiply(rows, i / kTileRows, v / kTileWords, sums.data());
      for (int64_t c = 0; c < chunks().count; ++c)
        out[(i * chunks().count + c) * words() + v] = sums[c * kTileSize + i % kTileRows * kTileWords + v % kTileWords];
    }
}

void OutputLayer::row_codes(const float* hidden, int64_t n, int16_t* out) const {
  PackedRows rows(n, chunks());
  rows.pack(hidden, n, columns());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < chunks().padded(); ++k) *out++ = rows.code(i, k);
}

void OutputLayer::word_codes(int16_t* out) const {
  for (int64_t v = 0; v < words(); ++v)
    for (int64_t k = 0; k < chunks().padded(); ++k) *out++ = matrix_.code(v, k);
}

void OutputLayer::logits(const float* hidden, const int64_t* rows, const int64_t* words, int64_t q, int threads,
                         float* out) const {
  constexpr int64_t kQuestions = 256;
  parallel((q + kQuestions - 1) / kQuestions, threads, [&](int64_t part) {
    for (int64_t i = part * kQuestions; i < std::min(q, (part + 1) * kQuestions); ++i)
      out[i] = static_cast<float>(
          dot(hidden + rows[i] * columns(), weight_ + words[i] * columns(), columns()) + bias_[words[i]]);
  });
}

}  // namespace kaldi_mpq::dense
