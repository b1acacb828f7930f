// SPDX-License-Identifier: Apache-2.0
// A packed Transformer language model's step of many histories: embedding rows and positions, all blocks, in one call.
//
// Keys and values lie in rows of an arena that histories with a common beginning share. Layer after layer is computed
// for all histories, so that one history may see the row that another one of the same call writes: whole trees are one
// call. Words at the same position are computed once as far as they have no context. Not here: the output layer, and
// which history has which row.
//
// Paper: Vaswani et al., "Attention is all you need", 2017, eq. (1) and sections 3.2-3.5.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "layer_kernels.h"
#include "matrix.h"

namespace kaldi_mpq::packed {

struct Linear {
  std::shared_ptr<const Matrix> weights;
  std::vector<float> bias;
};

struct LayerNorm {
  std::vector<float> scale, shift;
};

struct TransformerBlock {
  Linear project;  // (3 E, E): queries, keys, values
  Linear out;      // (E, E)
  Linear up;       // (H, E)
  Linear down;     // (E, H)
  LayerNorm first, second;
};

// Keys and values that are read and written: (layers, rows, E) each.
struct Arena {
  float *keys, *values;
  int64_t rows;
};

// N histories and the words that they end in.
struct Histories {
  const int64_t* words;  // (n)
  const int64_t* rows;   // (n, longest): rows of the arena in order, the last one is written; -1 in front of shorter ones
  int64_t n, longest;
};

class Transformer {
 public:
  // Embeddings are multiplied by `scale`. `last` is the norm above the blocks of a pre-norm model; a model without it
  // has its norms after each sum. Throws std::invalid_argument where parts do not fit each other.
  Transformer(std::shared_ptr<const Matrix> embedding, float scale, std::vector<TransformerBlock> blocks,
              std::optional<LayerNorm> last, int64_t heads);

  // Writes keys and values of each history's last word into its row, and (n, E) hidden vectors for the output layer.
  // `positions`, (longest, E), are added to the embeddings. Words and rows are in range, rows that are written distinct.
  // The result does not depend on `threads`, nor on what else is in the call.
  void step(const Arena& arena, const Histories& histories, const float* positions, int threads, float* out) const;

  int64_t vocabulary() const { return embedding_->rows(); }
  int64_t width() const { return embedding_->columns(); }
  int64_t inner() const { return blocks_[0].up.weights->rows(); }
  int64_t layers() const { return static_cast<int64_t>(blocks_.size()); }

 private:
  struct Step;
  struct Room;
  template <typename Work>
  void each_range(int64_t n, int threads, const Work& work) const;
  void begin(Step& step) const;
  void offer(Step& step, int64_t layer, int64_t begin, int64_t end, Room& room) const;
  void read(const Step& step, int64_t layer, int64_t begin, int64_t end, Room& room) const;
  void feed(const TransformerBlock& block, float* x, int64_t n, Room& room) const;
  const float* normalized(const LayerNorm& norm, const float* x, int64_t n, float* to) const;

  std::shared_ptr<const Matrix> embedding_;
  float scale_;
  std::vector<TransformerBlock> blocks_;
  std::optional<LayerNorm> last_;
  int64_t heads_;
  const LayerKernels* kernels_;
};

}  // namespace kaldi_mpq::packed
