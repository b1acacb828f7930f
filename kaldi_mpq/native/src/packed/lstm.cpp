// SPDX-License-Identifier: Apache-2.0
#include "lstm.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "dense/lstm_step.h"
#include "dense/parallel.h"
#include "distinct.h"
#include "product.h"

namespace kaldi_mpq::packed {
namespace {

constexpr int64_t kHistories = 256;  // at a time: their gates stay in the processor's caches

void require(bool good, const char* what) {
  if (!good) throw std::invalid_argument(what);
}

const dense::Kernels& cell_kernels(const Kernels& kernels) {
  return std::strcmp(kernels.name, "portable") == 0 ? dense::portable_kernels() : dense::best_kernels();
}

}  // namespace

// Histories that are advanced together, and where they go.
struct Lstm::Part {
  LstmStates before;
  const int64_t *parents, *words;
  int64_t begin, end, all;
  float *out, *new_hidden, *new_cell;
};

Lstm::Lstm(std::shared_ptr<const Matrix> embedding, std::vector<LstmLayer> layers,
           std::shared_ptr<const Matrix> projection)
    : embedding_(std::move(embedding)), projection_(std::move(projection)), layers_(std::move(layers)) {
  require(embedding_ != nullptr && !layers_.empty(), "an LSTM has an embedding and layers");
  int64_t below = embedding_->columns();
  const int64_t cells = layers_[0].recurrent->columns();
  for (const LstmLayer& layer : layers_) {
    require(layer.input->columns() == below && layer.input->rows() == 4 * cells, "input weights are (4 H, I)");
    require(layer.recurrent->columns() == cells && layer.recurrent->rows() == 4 * cells, "step weights are (4 H, H)");
    require(static_cast<int64_t>(layer.bias.size()) == 4 * cells, "a bias is (4 H)");
    require(layer.peephole.empty() || static_cast<int64_t>(layer.peephole.size()) == 3 * cells, "peepholes are (3 H)");
    below = cells;
  }
  require(!projection_ || projection_->columns() == cells, "a projection is (E, H)");
  cell_kernels_ = &cell_kernels(layers_[0].recurrent->kernels());
}

void Lstm::advance(const LstmStates& before, const int64_t* parents, const int64_t* words, int64_t n, int threads,
                   float* out, float* new_hidden, float* new_cell) const {
  const int64_t parts = (n + kHistories - 1) / kHistories;
  const auto part = [&](int64_t p, int own_threads) {
    run({before, parents, words, p * kHistories, std::min(n, (p + 1) * kHistories), n, out, new_hidden, new_cell},
        own_threads);
  };
  if (threads > 1 && parts >= 2 * threads) {
    dense::parallel(parts, threads, [&](int64_t p) { part(p, 1); });
  } else {
    for (int64_t p = 0; p < parts; ++p) part(p, threads);
  }
}

void Lstm::run(const Part& part, int threads) const {
  const int64_t n = part.end - part.begin, cells = this->cells();
  const Distinct words(part.words + part.begin, n), parents(part.parents + part.begin, n);
  std::vector<int64_t> every(n);
  std::iota(every.begin(), every.end(), 0);
  std::vector<float> inputs(words.size() * embedding_->columns());
  for (int64_t i = 0; i < words.size(); ++i)
    embedding_->row(words.values[i], inputs.data() + i * embedding_->columns());
  std::vector<float> below(n * 4 * cells), before(parents.size() * 4 * cells);
  const float* x = inputs.data();
  int64_t rows = words.size();
  const std::vector<int64_t>* which = &words.which;
  for (int64_t k = 0; k < layers(); ++k) {
    const LstmLayer& layer = layers_[k];
    const float* old_hidden = part.before.hidden + k * part.before.rows * cells;
    const float* old_cell = part.before.cell + k * part.before.rows * cells;
    float* hidden = part.new_hidden + (k * part.all + part.begin) * cells;
    float* cell = part.new_cell + (k * part.all + part.begin) * cells;
    multiply(*layer.input, layer.bias.data(), x, nullptr, rows, threads, below.data());
    multiply(*layer.recurrent, nullptr, old_hidden, parents.values.data(), parents.size(), threads, before.data());
    dense::lstm_step(*cell_kernels_, {below.data(), which->data()}, {before.data(), parents.which.data()},
                     {old_cell, part.parents + part.begin}, layer.peephole.empty() ? nullptr : layer.peephole.data(),
                     n, cells, threads, hidden, cell);
    x = hidden;
    rows = n;
    which = &every;
  }
  float* out = part.out + part.begin * width();
  if (projection_)
    multiply(*projection_, nullptr, x, nullptr, n, threads, out);
  else
    std::memcpy(out, x, n * cells * sizeof *out);
}

}  // namespace kaldi_mpq::packed
