// SPDX-License-Identifier: Apache-2.0
// Read-only windows on a batch of lattices and on one lattice in it: what the algorithms walk, whoever owns the arrays.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace kaldi_mpq {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr int64_t kFinal = -1;  // stands for "stop here" where an arc number is expected

// What a cost is made of: graph_scale * graph + acoustic_scale * acoustic + word_penalty for each word.
struct Scales {
  double graph = 1.0;
  double acoustic = 1.0;
  double word_penalty = 0.0;
};

// One lattice. States are numbered from 0 within it, arcs as in the whole batch.
struct LatticeView {
  int32_t start;
  int32_t num_states;
  int64_t first_state;
  const int64_t* arc_begin;  // arcs of state s: arc_begin[s] .. arc_begin[s + 1]
  const double* final_graph;
  const double* final_acoustic;
  const int32_t* arc_word;
  const int32_t* arc_dest;
  const double* arc_graph;
  const double* arc_acoustic;

  // An infinite cost means "not there" whatever the scales are (0 * inf would be NaN).
  static double scaled(double graph, double acoustic, const Scales& scales) {
    if (graph == kInfinity || acoustic == kInfinity) return kInfinity;
    return scales.graph * graph + scales.acoustic * acoustic;
  }
  double arc_cost(int64_t arc, const Scales& scales) const {
    const double cost = scaled(arc_graph[arc], arc_acoustic[arc], scales);
    return arc_word[arc] == 0 ? cost : cost + scales.word_penalty;
  }
  double final_cost(int32_t state, const Scales& scales) const {
    return scaled(final_graph[state], final_acoustic[state], scales);
  }
  bool has_arc(int64_t arc) const { return arc_graph[arc] != kInfinity && arc_acoustic[arc] != kInfinity; }
  bool is_final(int32_t state) const { return final_graph[state] != kInfinity && final_acoustic[state] != kInfinity; }
};

// B lattices; the arrays are those of kaldi_mpq::Lattices.
struct BatchView {
  int64_t size;
  const uint8_t* compact;
  const int32_t* start;
  const int64_t* state_offsets;
  const int64_t* arc_offsets;
  const double* final_graph;
  const double* final_acoustic;
  const int64_t* final_tid_offsets;
  const int32_t* final_tids;
  const int32_t* arc_word;
  const int32_t* arc_dest;
  const double* arc_graph;
  const double* arc_acoustic;
  const int64_t* arc_tid_offsets;
  const int32_t* arc_tids;

  int64_t num_states() const { return state_offsets[size]; }
  int64_t num_arcs() const { return arc_offsets[num_states()]; }

  LatticeView operator[](int64_t lattice) const {
    const int64_t first = state_offsets[lattice];
    return {start[lattice], static_cast<int32_t>(state_offsets[lattice + 1] - first),
            first,          arc_offsets + first,
            final_graph + first, final_acoustic + first,
            arc_word,       arc_dest,
            arc_graph,      arc_acoustic};
  }
};

}  // namespace kaldi_mpq
