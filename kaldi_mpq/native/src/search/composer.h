// SPDX-License-Identifier: Apache-2.0
// Pruned composition of one lattice with a deterministic language model: best first, as Kaldi's lattice-lmrescore-pruned
// does it, but asking for the model's costs instead of computing them, so that one call can serve many lattices.
//
// An output state is a pair (lattice state, model state). From each, the arcs of the lattice are tried in the order of
// how good the best path through them was in the lattice. An output state's priority is what its best path is expected
// to cost: the cost up to it, the cost from there in the lattice, and a correction learnt from paths that are complete.
#pragma once

#include <cstdint>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../lattices.h"
#include "../paths/view.h"

namespace kaldi_mpq {

inline constexpr int32_t kEnd = -1;  // stands for the sentence end where a word is expected

struct SearchOptions {
  double acoustic_scale;  // for comparing paths; what is written has the lattice's own scale
  float beam;             // against the best complete path, in scaled costs
  int64_t max_arcs;       // of the output, once there is a complete path
  double growth;          // of the output, from one recomputation of all costs to the next; above 1
  int32_t frontier;       // questions asked at a time, once there is a complete path; 1: Kaldi's order exactly
};

// What does `word` cost in the model's state `state`, and which state does it lead to?
struct Question {
  int32_t state;
  int32_t word;
};

struct Answer {
  int32_t next;  // of no meaning after the sentence end
  float cost;    // infinity: the model has no such word
};

class Composer {
 public:
  // `lattice`: every state lies on a complete path, arcs lead to higher numbers, the start is 0. `start`: the model's.
  Composer(const LatticeView& lattice, const SearchOptions& options, int32_t start);

  // Search on, and append to `questions` what must be known to go further; none if the search is over.
  void ask(std::vector<Question>& questions);
  // The answers to all questions of the last call of ask(), in their order.
  void answer(const Answer* answers);
  bool done() const { return done_; }
  int64_t num_arcs() const { return static_cast<int64_t>(arcs_.size()); }

  // Append the output: states on a complete path in topological order, arcs with new graph costs and everything else
  // as it was. Nothing is appended if the model allows no complete path. `batch` holds the lattice.
  void write(const BatchView& batch, Lattices& out);

 private:
  struct Exit {
    float cost;    // of the best path to the end through here
    int64_t arc;   // kFinal: to stop here
  };
  struct State {
    int32_t lattice, model;
    double forward, backward;       // cost of the best path known: from the start, to an end
    float correction;               // guess: `backward` less what it is in the lattice
    int32_t next = 0;               // exit to be tried next
    int32_t depth, before = -1;     // on the best path from the start
    int32_t first_arc = -1, last_arc = -1;
    float final_change = 0.0f;      // what the model adds to the final weight, if `final`
    bool final = false;
  };
  struct Arc {
    int64_t arc;     // of the lattice
    int32_t dest;
    int32_t sibling = -1;
    float change;    // what the model adds to its graph cost
    double cost;
  };
  struct Pending {
    int32_t state;
    int64_t arc;
  };
  using Entry = std::pair<float, int32_t>;  // priority, output state

  double cost(double graph, double acoustic, float change) const;
  void find_exits();
  float gap(const State& state) const;
  float priority(const State& state) const;
  void push(int32_t state);
  void begin_round();
  void expand(int32_t state, std::vector<Question>& questions);
  void follow(int32_t from, int64_t arc, const Answer& answer);
  void stop(int32_t at, float change);
  void sort_states();
  void recompute_costs();
  void refresh();

  LatticeView lattice_;
  SearchOptions options_;
  std::vector<int64_t> exit_begin_;
  std::vector<Exit> exits_;      // of state s: exit_begin_[s] .. exit_begin_[s + 1], cheapest first
  std::vector<float> to_go_;     // cost of the best path from s to the end

  std::vector<State> states_;
  std::vector<Arc> arcs_;
  std::vector<int32_t> order_;   // output states, topologically sorted
  std::unordered_map<uint64_t, int32_t> state_of_;   // (lattice state, model state)
  std::unordered_map<uint64_t, Answer> known_;       // (model state, word)
  std::vector<Pending> pending_;
  std::vector<Question> asked_;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> queue_;

  float depth_penalty_ = -1000.0f;  // makes the search depth first until it has one complete path
  float cut_ = static_cast<float>(kInfinity);
  double best_out_ = kInfinity;
  int64_t limit_ = 0;
  bool reached_ = false, in_round_ = false, done_ = false;
};

}  // namespace kaldi_mpq
