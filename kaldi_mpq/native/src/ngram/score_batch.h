// SPDX-License-Identifier: Apache-2.0
// Many sentences through a deterministic model; what a sentence shares with the one before it is not looked up again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace kaldi_mpq {

inline int64_t shared_prefix(const int32_t* a, int64_t a_size, const int32_t* b, int64_t b_size) {
  const int64_t size = std::min(a_size, b_size);
  return std::mismatch(a, a + size, b).first - a;
}

// P sentences; offsets (P + 1), words (W), out: word_cost (W), final_cost (P). A Model has `initial`, `advance`,
// `finish_cost` and a type `State`. Word 0 is no word: it costs nothing and moves nothing.
template <class Model>
void score_batch(const Model& model, const int64_t* offsets, int64_t sentences, const int32_t* words, double* word_cost,
                 double* final_cost) {
  std::vector<typename Model::State> trail(1, model.initial());  // before each word, and at the end
  int64_t before = 0, before_size = 0;
  for (int64_t p = 0; p < sentences; ++p) {
    const int64_t begin = offsets[p], size = offsets[p + 1] - begin;
    const int64_t shared = shared_prefix(words + before, before_size, words + begin, size);
    std::copy_n(word_cost + before, shared, word_cost + begin);
    trail.resize(shared + 1);
    for (int64_t i = shared; i < size; ++i) {
      typename Model::State state = trail.back();
      word_cost[begin + i] = words[begin + i] == 0 ? 0.0 : model.advance(state, words[begin + i]);
      trail.push_back(state);
    }
    final_cost[p] = model.finish_cost(trail.back());
    before = begin;
    before_size = size;
  }
}

}  // namespace kaldi_mpq
