// SPDX-License-Identifier: Apache-2.0
// A weighted automaton over words: what G.fst is, and what an ARPA file becomes. Costs are -ln p.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace kaldi_mpq {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct ArcRange {
  int64_t begin, end;
};

// S states, A arcs; the arcs of a state are sorted by label, then by cost. Label 0 is epsilon: a backoff arc.
struct Automaton {
  struct Step {
    float cost;
    int32_t dest;
  };

  std::vector<int64_t> offsets{0};  // S + 1
  std::vector<int32_t> labels;      // A
  std::vector<Step> steps;          // A
  std::vector<float> final_cost;    // S, +inf: not final
  int32_t start = 0;
  int32_t max_label = 0;
  int64_t ambiguous_states = 0;  // those with two arcs of one label: the backoff reading takes the cheaper one
  int32_t unk = -1;              // what a word that is not `known` is read as; -1: it cannot be read
  std::vector<uint8_t> known;    // by word

  int32_t num_states() const { return static_cast<int32_t>(final_cost.size()); }
  int64_t num_arcs() const { return static_cast<int64_t>(labels.size()); }

  int32_t read_as(int32_t word) const {
    const bool is_known = unk < 0 || (word < static_cast<int64_t>(known.size()) && known[word]);
    return is_known ? word : unk;
  }

  ArcRange with_label(int32_t state, int32_t label) const;  // the arcs of `state` that have `label`

  // Sort arcs, count ambiguous states, find the largest label. Throws Fault at a cycle of epsilon arcs.
  void finish();

  // The backoff reading: take the arc of the word, or else the epsilon arc and try again. A word that no state on the
  // way has costs infinity, and reading goes on in the last state, which has the shortest history.
  using State = int32_t;
  State initial() const { return start; }
  double advance(State& state, int32_t word) const;
  double finish_cost(State state) const;
  State shortest_history(State state) const;  // where the epsilon arcs from `state` end

 private:
  void sort_arcs(int32_t state);
  void refuse_epsilon_cycles() const;
};

// P sentences; offsets (P + 1), words (W), out: word_cost (W), final_cost (P). The cheapest path of each sentence
// through the automaton, with any mix of word and epsilon arcs; word costs are the increments along it.
void score_best(const Automaton& automaton, const int64_t* offsets, int64_t sentences, const int32_t* words,
                double* word_cost, double* final_cost);

}  // namespace kaldi_mpq
