// SPDX-License-Identifier: Apache-2.0
#include "topology.h"

#include <algorithm>

namespace kaldi_mpq {
namespace {

bool kept(const uint8_t* keep, int64_t index) { return keep == nullptr || keep[index] != 0; }

// NaN and -inf are faults; +inf in either part says that there is no arc.
bool legal(double graph, double acoustic) { return graph > -kInfinity && acoustic > -kInfinity; }

}  // namespace

Fault Topology::sort(const LatticeView& lattice, const uint8_t* keep_arc, const uint8_t* keep_final) {
  order_.clear();
  useful_.assign(lattice.num_states, 0);
  if (lattice.num_states == 0 || lattice.start < 0) return Fault::kEmpty;
  if (lattice.start >= lattice.num_states) return Fault::kBadStart;
  const Fault fault = reach(lattice, keep_arc);
  if (fault != Fault::kNone) return fault;
  if (!sort_reached(lattice, keep_arc)) {
    order_.clear();
    return Fault::kCyclic;
  }
  trim(lattice, keep_arc, keep_final);
  return order_.empty() ? Fault::kNoFinal : Fault::kNone;
}

// Mark the states that the start leads to. Only their costs are looked at: the rest of the lattice plays no part.
Fault Topology::reach(const LatticeView& lattice, const uint8_t* keep_arc) {
  ascending_ = true;
  reached_.assign(lattice.num_states, 0);
  in_degree_.assign(lattice.num_states, 0);
  stack_.assign(1, lattice.start);
  reached_[lattice.start] = 1;
  while (!stack_.empty()) {
    const int32_t state = stack_.back();
    stack_.pop_back();
    if (!legal(lattice.final_graph[state], lattice.final_acoustic[state])) return Fault::kBadCost;
    for (int64_t arc = lattice.arc_begin[state]; arc < lattice.arc_begin[state + 1]; ++arc) {
      if (!legal(lattice.arc_graph[arc], lattice.arc_acoustic[arc])) return Fault::kBadCost;
      if (!lattice.has_arc(arc) || !kept(keep_arc, arc)) continue;
      const int32_t dest = lattice.arc_dest[arc];
      if (dest < 0 || dest >= lattice.num_states) return Fault::kBadDestination;
      if (dest <= state) ascending_ = false;
      ++in_degree_[dest];
      if (!reached_[dest]) {
        reached_[dest] = 1;
        stack_.push_back(dest);
      }
    }
  }
  return Fault::kNone;
}

// Return false if there is a cycle. States that are sorted already (Kaldi's usually are) keep their order.
bool Topology::sort_reached(const LatticeView& lattice, const uint8_t* keep_arc) {
  if (ascending_) {
    for (int32_t state = lattice.start; state < lattice.num_states; ++state) {
      if (reached_[state]) order_.push_back(state);
    }
    return true;
  }
  if (in_degree_[lattice.start] != 0) return false;
  order_.push_back(lattice.start);
  for (size_t next = 0; next < order_.size(); ++next) {
    const int32_t state = order_[next];
    for (int64_t arc = lattice.arc_begin[state]; arc < lattice.arc_begin[state + 1]; ++arc) {
      if (!lattice.has_arc(arc) || !kept(keep_arc, arc)) continue;
      if (--in_degree_[lattice.arc_dest[arc]] == 0) order_.push_back(lattice.arc_dest[arc]);
    }
  }
  return static_cast<int64_t>(order_.size()) == std::count(reached_.begin(), reached_.end(), uint8_t{1});
}

// Leave in the order only the states from which a final one can be reached; `useful_` is 0 on entry.
void Topology::trim(const LatticeView& lattice, const uint8_t* keep_arc, const uint8_t* keep_final) {
  for (auto state = order_.rbegin(); state != order_.rend(); ++state) {
    uint8_t useful = lattice.is_final(*state) && kept(keep_final, lattice.first_state + *state);
    for (int64_t arc = lattice.arc_begin[*state]; !useful && arc < lattice.arc_begin[*state + 1]; ++arc) {
      useful = lattice.has_arc(arc) && kept(keep_arc, arc) && useful_[lattice.arc_dest[arc]];
    }
    useful_[*state] = useful;
  }
  const auto useless = [this](int32_t state) { return useful_[state] == 0; };
  order_.erase(std::remove_if(order_.begin(), order_.end(), useless), order_.end());
}

std::string describe_fault(const LatticeView& lattice, Topology& topology, int32_t num_words) {
  switch (topology.sort(lattice)) {
    case Fault::kEmpty: return "empty";
    case Fault::kBadStart: return "start state " + std::to_string(lattice.start) + " does not exist";
    case Fault::kBadDestination: return "an arc leads to a state that does not exist";
    case Fault::kBadCost: return "NaN or -inf cost";
    case Fault::kCyclic: return "cyclic";
    case Fault::kNoFinal: return "no final state can be reached";
    case Fault::kNone: break;
  }
  for (int64_t arc = lattice.arc_begin[0]; arc < lattice.arc_begin[lattice.num_states]; ++arc) {
    const int32_t word = lattice.arc_word[arc];
    if (word < 0) return "negative word id " + std::to_string(word);
    if (word >= num_words) {
      return "word id " + std::to_string(word) + " >= vocabulary size " + std::to_string(num_words);
    }
  }
  return "";
}

}  // namespace kaldi_mpq
