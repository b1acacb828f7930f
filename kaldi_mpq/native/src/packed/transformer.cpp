// SPDX-License-Identifier: Apache-2.0
#include "transformer.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>

#include "dense/parallel.h"
#include "distinct.h"
#include "product.h"

namespace kaldi_mpq::packed {
namespace {

constexpr int64_t kFewest = 16;  // histories that are worth a thread

void require(bool good, const char* what) {
  if (!good) throw std::invalid_argument(what);
}

void require_linear(const Linear& linear, int64_t rows, int64_t columns, const char* what) {
  require(linear.weights != nullptr && linear.weights->rows() == rows && linear.weights->columns() == columns, what);
  require(static_cast<int64_t>(linear.bias.size()) == rows, "every row of a matrix has a bias");
}

void require_norm(const LayerNorm& norm, int64_t width) {
  require(static_cast<int64_t>(norm.scale.size()) == width && static_cast<int64_t>(norm.shift.size()) == width,
          "a layer norm has E scales and shifts");
}

void multiply_linear(const Linear& linear, const float* x, int64_t n, float* out) {
  multiply(*linear.weights, linear.bias.data(), x, nullptr, n, 1, out);
}

void add(const float* x, int64_t n, float* to) {
  for (int64_t k = 0; k < n; ++k) to[k] += x[k];
}

}  // namespace

// One call: what it was given, and what all of its histories have.
struct Transformer::Step {
  const Arena& arena;
  const Histories& histories;
  const float* positions;
  int threads;
  float* x;                            // (n, E), what goes from block to block
  std::vector<int64_t> first;          // (n), where the rows of each history begin
  dense::AlignedVector<float> queries;  // (n, E), of the block that is computed

  // Puts a history's query, key and value, (3, E), where they belong.
  void put(int64_t layer, int64_t i, const float* offered, int64_t dim) {
    const int64_t own = (layer * arena.rows + histories.rows[(i + 1) * histories.longest - 1]) * dim;
    const std::size_t bytes = dim * sizeof *offered;
    std::memcpy(queries.data() + i * dim, offered, bytes);
    std::memcpy(arena.keys + own, offered + dim, bytes);
    std::memcpy(arena.values + own, offered + 2 * dim, bytes);
  }
};

// What one thread needs for some histories at a time.
struct Transformer::Room {
  Room(int64_t rows, int64_t width, int64_t inner)
      : seen(rows * width), mixed(rows * width), wide(rows * std::max(3 * width, inner)) {}
  dense::AlignedVector<float> seen, mixed, wide, weights;
};

// Calls work(begin, end, room) for ranges of n rows that together are all of them.
template <typename Work>
void Transformer::each_range(int64_t n, int threads, const Work& work) const {
  const int64_t size = std::clamp((n + threads - 1) / threads, std::min(kFewest, n), kBlockRows);
  std::atomic<int64_t> next{0};
  dense::parallel(std::min<int64_t>(threads, (n + size - 1) / size), threads, [&](int64_t) {
    Room room(size, width(), inner());
    for (int64_t begin = next.fetch_add(size); begin < n; begin = next.fetch_add(size))
      work(begin, std::min(n, begin + size), room);
  });
}

Transformer::Transformer(std::shared_ptr<const Matrix> embedding, float scale, std::vector<TransformerBlock> blocks,
                         std::optional<LayerNorm> last, int64_t heads)
    : embedding_(std::move(embedding)),
      scale_(scale),
      blocks_(std::move(blocks)),
      last_(std::move(last)),
      heads_(heads) {
  require(embedding_ != nullptr && !blocks_.empty(), "a Transformer has an embedding and blocks");
  require(blocks_[0].up.weights != nullptr, "a block has a feed-forward part");
  require(heads > 0 && width() % heads == 0, "heads divide E");
  for (const TransformerBlock& block : blocks_) {
    require_linear(block.project, 3 * width(), width(), "queries, keys and values are (3 E, E)");
    require_linear(block.out, width(), width(), "an output of attention is (E, E)");
    require_linear(block.up, inner(), width(), "weights up are (H, E)");
    require_linear(block.down, width(), inner(), "weights down are (E, H)");
    require_norm(block.first, width());
    require_norm(block.second, width());
  }
  if (last_) require_norm(*last_, width());
  kernels_ = &layer_kernels(embedding_->kernels().name);
}

void Transformer::step(const Arena& arena, const Histories& histories, const float* positions, int threads,
                       float* out) const {
  const int64_t n = histories.n;
  if (n == 0) return;
  Step step{arena, histories, positions, std::max(1, threads), out, std::vector<int64_t>(n), {}};
  step.queries.resize(n * width());
  begin(step);
  for (int64_t k = 0; k < layers(); ++k)
    each_range(n, step.threads, [&](int64_t begin, int64_t end, Room& room) {
      read(step, k, begin, end, room);
      if (k + 1 < layers())
        offer(step, k + 1, begin, end, room);
      else if (last_)
        normalized(*last_, out + begin * width(), end - begin, out + begin * width());
    });
}

// Embeddings, and what the first block offers: the same for a word at the same position, whatever was before it.
void Transformer::begin(Step& step) const {
  const Histories& histories = step.histories;
  const int64_t n = histories.n, dim = width();
  std::vector<int64_t> pairs(n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t* rows = histories.rows + i * histories.longest;
    step.first[i] = std::find_if(rows, rows + histories.longest, [](int64_t row) { return row >= 0; }) - rows;
    pairs[i] = (histories.longest - step.first[i] - 1) * vocabulary() + histories.words[i];
  }
  const Distinct distinct(pairs.data(), n);
  const int64_t few = distinct.size();
  dense::AlignedVector<float> x(few * dim), offered(few * 3 * dim);
  each_range(few, step.threads, [&](int64_t begin, int64_t end, Room& room) {
    for (int64_t i = begin; i < end; ++i) {
      const float* position = step.positions + distinct.values[i] / vocabulary() * dim;
      float* to = x.data() + i * dim;
      embedding_->row(distinct.values[i] % vocabulary(), to);
      for (int64_t k = 0; k < dim; ++k) to[k] = to[k] * scale_ + position[k];
    }
    float* to = last_ ? room.seen.data() : nullptr;
    const float* seen = normalized(blocks_[0].first, x.data() + begin * dim, end - begin, to);
    multiply_linear(blocks_[0].project, seen, end - begin, offered.data() + begin * 3 * dim);
  });
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(step.x + i * dim, x.data() + distinct.which[i] * dim, dim * sizeof(float));
    step.put(0, i, offered.data() + distinct.which[i] * 3 * dim, dim);
  }
}

// Queries, keys and values of a block for histories begin ... end - 1.
void Transformer::offer(Step& step, int64_t layer, int64_t begin, int64_t end, Room& room) const {
  const TransformerBlock& block = blocks_[layer];
  const int64_t n = end - begin, dim = width();
  const float* seen = normalized(block.first, step.x + begin * dim, n, last_ ? room.seen.data() : nullptr);
  multiply_linear(block.project, seen, n, room.wide.data());
  for (int64_t i = begin; i < end; ++i) step.put(layer, i, room.wide.data() + (i - begin) * 3 * dim, dim);
}

// The rest of a block, once all histories have offered their keys and values.
void Transformer::read(const Step& step, int64_t layer, int64_t begin, int64_t end, Room& room) const {
  const TransformerBlock& block = blocks_[layer];
  const int64_t n = end - begin, dim = width(), longest = step.histories.longest;
  const int64_t at = layer * step.arena.rows * dim;
  for (int64_t i = begin; i < end; ++i) {
    const Attended there{step.arena.keys + at, step.arena.values + at,
                         step.histories.rows + i * longest + step.first[i], longest - step.first[i], heads_,
                         dim / heads_};
    room.weights.resize(there.weights());
    kernels_->attend(step.queries.data() + i * dim, there, room.weights.data(), room.mixed.data() + (i - begin) * dim);
  }
  float* x = step.x + begin * dim;
  multiply_linear(block.out, room.mixed.data(), n, room.seen.data());
  add(room.seen.data(), n * dim, x);
  if (!last_) normalized(block.first, x, n, x);
  feed(block, x, n, room);
  if (!last_) normalized(block.second, x, n, x);
}

void Transformer::feed(const TransformerBlock& block, float* x, int64_t n, Room& room) const {
  const float* seen = normalized(block.second, x, n, last_ ? room.seen.data() : nullptr);
  multiply_linear(block.up, seen, n, room.wide.data());
  kernels_->gelu(room.wide.data(), n * inner());
  multiply_linear(block.down, room.wide.data(), n, room.mixed.data());
  add(room.mixed.data(), n * width(), x);
}

// Returns n rows of x normalized, written to `to`; x itself if that is nullptr.
const float* Transformer::normalized(const LayerNorm& norm, const float* x, int64_t n, float* to) const {
  if (to == nullptr) return x;
  for (int64_t i = 0; i < n; ++i)
    kernels_->normalize(x + i * width(), width(), norm.scale.data(), norm.shift.data(), to + i * width());
  return to;
}

}  // namespace kaldi_mpq::packed
