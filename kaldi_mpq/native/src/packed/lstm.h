// SPDX-License-Identifier: Apache-2.0
// A packed LSTM language model's step of many histories: embedding rows, gates, cells, projection, in one call.
//
// What siblings share is computed once for each block of histories: the part of a word in the first layer's gates, and
// the part of a parent in each layer's. Not here: the output layer, and which history lies in which row.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dense/kernels.h"
#include "matrix.h"

namespace kaldi_mpq::packed {

struct LstmLayer {
  std::shared_ptr<const Matrix> input, recurrent;  // (4 H, I) and (4 H, H): gates input, forget, cell, output
  std::vector<float> bias;                         // (4 H)
  std::vector<float> peephole;                     // (3 H), or nothing
};

// What histories are before a step: (layers, rows, H) each.
struct LstmStates {
  const float *hidden, *cell;
  int64_t rows;
};

class Lstm {
 public:
  // `projection` may be nullptr. Throws std::invalid_argument where matrices do not fit each other.
  Lstm(std::shared_ptr<const Matrix> embedding, std::vector<LstmLayer> layers,
       std::shared_ptr<const Matrix> projection);

  // Feeds words[i] to the history in row parents[i] of `before`, and writes (n, width) hidden vectors for the output
  // layer and (layers, n, H) new states. Parents and words are in range. The result does not depend on `threads`.
  void advance(const LstmStates& before, const int64_t* parents, const int64_t* words, int64_t n, int threads,
               float* out, float* new_hidden, float* new_cell) const;

  int64_t vocabulary() const { return embedding_->rows(); }
  int64_t cells() const { return layers_[0].recurrent->columns(); }
  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
  int64_t width() const { return projection_ ? projection_->rows() : cells(); }

 private:
  struct Part;
  void run(const Part& part, int threads) const;

  std::shared_ptr<const Matrix> embedding_, projection_;
  std::vector<LstmLayer> layers_;
  const dense::Kernels* cell_kernels_;
};

}  // namespace kaldi_mpq::packed
