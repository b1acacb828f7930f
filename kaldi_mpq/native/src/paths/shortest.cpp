// SPDX-License-Identifier: Apache-2.0
// With the exact cost to go h(s) of every state s, leaving s by an exit e (an arc, or stopping there) costs
//   delta(s, e) = cost(e) + h(destination of e) - h(s) >= 0
// more than leaving it by the best one, and a path costs h(start) plus the deltas of its exits. So every path is a
// cheaper path, left at one state by another exit than before, that follows the best exits from there on. A queue holds
// for each state of each path found the next exit of that state that was not tried there yet: each pop is the next one
// in order, and nothing is ever expanded in vain. An exit enters the queue only when the one before it was taken (exits
// are sorted per state, when a path first comes by), so that a state with hundreds of arcs costs no more than others.
#include "shortest.h"

#include <algorithm>
#include <tuple>

namespace kaldi_mpq {

void CostToGo::compute(const LatticeView& lattice, const Topology& topology, const Scales& scales) {
  cost_.assign(lattice.num_states, kInfinity);
  best_exit_.assign(lattice.num_states, kFinal);
  const std::vector<int32_t>& order = topology.order();
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    const int32_t state = *it;
    double best = lattice.final_cost(state, scales);
    bool found = lattice.is_final(state);
    for (int64_t arc = lattice.arc_begin[state]; arc < lattice.arc_begin[state + 1]; ++arc) {
      const int32_t dest = lattice.arc_dest[arc];
      if (!lattice.has_arc(arc) || !topology.has(dest)) continue;
      const double cost = lattice.arc_cost(arc, scales) + cost_[dest];
      if (!found || cost < best) {
        found = true;
        best = cost;
        best_exit_[state] = arc;
      }
    }
    cost_[state] = best;
  }
}

namespace {

struct Exit {
  double delta;
  int64_t arc;  // or kFinal
};

// A path to be made: the first `position` arcs of path `path`, then exit number `rank` of the state they lead to, then
// the best exits.
struct Candidate {
  double cost;  // of the whole path
  double base;  // the same with exit number 0
  int64_t serial;
  int64_t path;
  int64_t position;
  int64_t rank;
};

bool worse(const Candidate& a, const Candidate& b) { return std::tie(a.cost, a.serial) > std::tie(b.cost, b.serial); }
bool better(const Candidate& a, const Candidate& b) { return worse(b, a); }

// The search in one lattice after another; its memory is kept from one to the next.
class Search {
 public:
  explicit Search(const Scales& scales) : scales_(scales) {}

  // Append the paths of one lattice to `out`.
  void run(const LatticeView& lattice, int64_t n, PathBatch& out) {
    if (topology_.sort(lattice) != Fault::kNone) return;
    to_go_.compute(lattice, topology_, scales_);
    lattice_ = &lattice;
    out_ = &out;
    queue_.clear();
    exits_.clear();
    exits_end_.assign(lattice.num_states, {0, 0});
    limit_ = kInfinity;
    serial_ = 0;
    wanted_ = n - 1;
    add_path(Candidate{to_go_[lattice.start], to_go_[lattice.start], 0, -1, 0, 0});
    while (wanted_ > 0 && !queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), worse);
      const Candidate next = queue_.back();
      queue_.pop_back();
      --wanted_;
      add_path(next);
    }
  }

 private:
  // Write the path that a candidate stands for, and queue the paths that deviate from it at or after its own deviation.
  void add_path(const Candidate& made) {
    const int64_t path = static_cast<int64_t>(out_->final_state.size());
    const int64_t begin = static_cast<int64_t>(out_->arcs.size());
    int32_t state = lattice_->start;
    for (int64_t i = 0; i < made.position; ++i) {
      const int64_t arc = out_->arcs[out_->arc_offsets[made.path] + i];
      out_->arcs.push_back(arc);
      state = lattice_->arc_dest[arc];
    }
    if (wanted_ > 0) queue(made.base, state, path, made.position, made.rank + 1);
    int64_t exit = made.rank == 0 ? to_go_.best_exit(state) : exits(state)[made.rank].arc;
    for (int64_t position = made.position + 1; exit != kFinal; ++position) {
      out_->arcs.push_back(exit);
      state = lattice_->arc_dest[exit];
      if (wanted_ > 0) queue(made.cost, state, path, position, 1);
      exit = to_go_.best_exit(state);
    }
    finish(begin, state);
  }

  void finish(int64_t begin, int32_t state) {
    double graph = 0.0, acoustic = 0.0;
    for (size_t i = begin; i < out_->arcs.size(); ++i) {
      graph += lattice_->arc_graph[out_->arcs[i]];
      acoustic += lattice_->arc_acoustic[out_->arcs[i]];
    }
    out_->graph.push_back(graph + lattice_->final_graph[state]);
    out_->acoustic.push_back(acoustic + lattice_->final_acoustic[state]);
    out_->arc_offsets.push_back(static_cast<int64_t>(out_->arcs.size()));
    out_->final_state.push_back(lattice_->first_state + state);
  }

  void queue(double base, int32_t state, int64_t path, int64_t position, int64_t rank) {
    if (rank >= num_exits(state)) return;
    const double cost = base + exits(state)[rank].delta;
    if (cost >= limit_) return;
    queue_.push_back({cost, base, serial_++, path, position, rank});
    std::push_heap(queue_.begin(), queue_.end(), worse);
    if (static_cast<int64_t>(queue_.size()) > 4 * wanted_ + 1024) drop_hopeless();
  }

  // Each candidate in the queue is a path, so only the best `wanted_` of them can ever be wanted, and later ones only
  // if they are better than these.
  void drop_hopeless() {
    std::nth_element(queue_.begin(), queue_.begin() + (wanted_ - 1), queue_.end(), better);
    queue_.resize(wanted_);
    limit_ = queue_.back().cost;
    std::make_heap(queue_.begin(), queue_.end(), worse);
  }

  int64_t num_exits(int32_t state) {
    if (exits_end_[state].second == 0) sort_exits(state);
    return exits_end_[state].second - exits_end_[state].first;
  }
  const Exit* exits(int32_t state) const { return exits_.data() + exits_end_[state].first; }

  void sort_exits(int32_t state) {
    const int64_t begin = static_cast<int64_t>(exits_.size());
    add_exit(state, lattice_->final_cost(state, scales_), kFinal);
    for (int64_t arc = lattice_->arc_begin[state]; arc < lattice_->arc_begin[state + 1]; ++arc) {
      const int32_t dest = lattice_->arc_dest[arc];
      if (topology_.has(dest)) add_exit(state, lattice_->arc_cost(arc, scales_) + to_go_[dest], arc);
    }
    std::sort(exits_.begin() + begin, exits_.end(), [](const Exit& a, const Exit& b) {
      return std::tie(a.delta, a.arc) < std::tie(b.delta, b.arc);  // kFinal is the smallest arc
    });
    exits_end_[state] = {begin, static_cast<int64_t>(exits_.size())};
  }

  void add_exit(int32_t state, double cost, int64_t arc) {
    const double delta = cost - to_go_[state];
    if (delta < kInfinity) exits_.push_back({delta, arc});
  }

  const Scales scales_;
  Topology topology_;
  CostToGo to_go_;
  const LatticeView* lattice_ = nullptr;
  PathBatch* out_ = nullptr;
  int64_t wanted_ = 0;  // paths still to be found
  int64_t serial_ = 0;  // breaks ties: earlier candidates first
  double limit_ = kInfinity;
  std::vector<Candidate> queue_;
  std::vector<Exit> exits_;                            // those of one state are contiguous
  std::vector<std::pair<int64_t, int64_t>> exits_end_;  // first and last + 1 of each state; (0, 0): not sorted yet
};

}  // namespace

PathBatch shortest_paths(const BatchView& batch, int64_t n, const Scales& scales) {
  PathBatch out;
  Search search(scales);
  for (int64_t lattice = 0; lattice < batch.size; ++lattice) {
    if (n > 0) search.run(batch[lattice], n, out);
    out.lattice_offsets.push_back(static_cast<int64_t>(out.final_state.size()));
  }
  return out;
}

}  // namespace kaldi_mpq
