// SPDX-License-Identifier: Apache-2.0
// ln sum_v exp(h . w_v + b_v) of packed words w_v for many h without storing a logit, and logits of single words.
//
// Results do not depend on the number of threads: floats are added up within slices of the vocabulary, slices in order
// in float64. Logits of asked words are of float activations, whatever the sums are of.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dense/aligned.h"
#include "matrix.h"

namespace kaldi_mpq::packed {

class OutputLayer {
 public:
  // `bias` is (rows of the matrix). `cheap`: sums are of 8-bit activations, though the matrix was made for 16.
  OutputLayer(std::shared_ptr<const Matrix> words, const float* bias, bool cheap = false);

  // Writes n logarithms of sums for (n, columns) rows; NaN for a row that is not finite, and for no other.
  void log_sums(const float* hidden, int64_t n, int threads, double* out) const;

  // Writes the logits of q words after rows of `hidden`. Rows and words are in range.
  void logits(const float* hidden, const int64_t* rows, const int64_t* words, int64_t q, int threads,
              float* out) const;

  const Matrix& matrix() const { return *words_; }

 private:
  struct Found {
    double sum;
    float best;
  };
  void run_slice(const Activations& rows, int64_t slice, const float* shift, Found* found) const;
  void log_sums_shifted(const float* hidden, const int64_t* which, int64_t n, int threads, const float* shift,
                        double* out, float* best) const;
  int64_t slices() const;

  std::shared_ptr<const Matrix> words_;
  bool cheap_;
  std::vector<float> bias_;
  dense::AlignedVector<float> panel_bias_;  // [panel][kPanel], times log2(e); minus infinity where there is no word
};

}  // namespace kaldi_mpq::packed
