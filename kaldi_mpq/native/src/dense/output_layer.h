// SPDX-License-Identifier: Apache-2.0
// ln sum_v exp(h . w_v + b_v) for many h, without storing a logit.
//
// Products are tiles of integers. Errors of their quantization average over the vocabulary, except those of words so
// likely that nothing outweighs them: the logits of words with a share above kLikely are computed again in floats. Of
// two such words, the lesser is missed where both are in one slice of the vocabulary and their numbers agree modulo
// kTileWords. Results do not depend on the number of threads: floats are added up within slices, slices in order in
// float64.
#pragma once

#include <cstdint>
#include <vector>

#include "packed_matrix.h"
#include "packed_rows.h"
#include "kernels.h"

namespace kaldi_mpq::dense {

constexpr double kLikely = 0.01;

class OutputLayer {
 public:
  // `weight`, (V, E), and `bias`, (V), must outlive this object: likely words are computed from them.
  OutputLayer(const float* weight, const float* bias, int64_t words, int64_t columns, const Kernels& kernels);

  // Writes n logarithms of sums for (n, E) rows; NaN where a row is not finite or its logits leave the range of a
  // float's exponential (no logit above -57, or one above 88): those rows need a way that shifts logits.
  void log_sums(const float* hidden, int64_t n, int threads, double* out) const;

  // Writes the logits of q words after rows of `hidden`, from the float weights. Rows and words are in range.
  void logits(const float* hidden, const int64_t* rows, const int64_t* words, int64_t q, int threads, float* out) const;

  // For tests: (n, chunks, V) sums of products before any scale, (n, chunks, columns of a chunk) codes of rows, and (V,
  // chunks, columns of a chunk) codes of the matrix.
  void integer_sums(const float* hidden, int64_t n, int32_t* out) const;
  void row_codes(const float* hidden, int64_t n, int16_t* out) const;
  void word_codes(int16_t* out) const;

  int64_t words() const { return matrix_.rows(); }
  int64_t columns() const { return matrix_.columns(); }
  const Chunks& chunks() const { return matrix_.chunks(); }

 private:
  struct Block;
  void multiply(const PackedRows& rows, int64_t group, int64_t panel, int32_t* sums) const;
  void run(const float* hidden, Block& block, int64_t part, int64_t parts) const;
  void end_slice(Block& block, int64_t part, int64_t slice, std::vector<RowTotals>& totals) const;
  void finish(const float* hidden, const Block& block, double* out) const;
  int64_t slices() const;

  const float* weight_;
  const float* bias_;
  PackedMatrix matrix_;
  const Kernels* kernels_;
};

}  // namespace kaldi_mpq::dense
