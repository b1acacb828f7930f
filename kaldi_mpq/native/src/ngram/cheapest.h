// SPDX-License-Identifier: Apache-2.0
// A non-deterministic automaton read as a deterministic one, word by word: a state is every state of the automaton that
// the words so far can lead to, with how much more than the cheapest of them it costs. So costs add up to those of the
// cheapest path, which is what composition with G.fst has put into lattices.
#pragma once

#include <cstdint>
#include <vector>

#include "automaton.h"

namespace kaldi_mpq {

class Cheapest {
 public:
  struct Place {
    int32_t state;
    float behind;  // what it costs more than the cheapest place
  };
  // By state; none that an epsilon path from another one reaches as cheaply.
  using State = std::vector<Place>;

  explicit Cheapest(const Automaton& automaton);

  // Places of a state, at most, in a backoff n-gram: the states on its longest chain of epsilon arcs.
  int64_t most_places() const { return most_places_; }
  int32_t num_states() const { return automaton_.num_states(); }

  State initial() const;
  // A word that no place has costs infinity, and reading goes on in the state with the shortest history. Throws Fault
  // where there would be more than most_places() places.
  double advance(State& state, int32_t word) const;
  double finish_cost(const State& state) const;

 private:
  struct Reached {
    int32_t state;
    double cost;
    bool by_epsilon;
  };

  static int32_t offer(std::vector<Reached>& reached, const Reached& one);
  void close(std::vector<Reached>& reached) const;
  double settle(std::vector<Reached>& reached, State& state) const;

  const Automaton& automaton_;
  int64_t most_places_ = 1;
};

}  // namespace kaldi_mpq
