// SPDX-License-Identifier: Apache-2.0
// The order in which a lattice's states are visited, and whether it can be used at all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "view.h"

namespace kaldi_mpq {

enum class Fault { kNone, kEmpty, kBadStart, kBadDestination, kBadCost, kCyclic, kNoFinal };

// The states that lie on a complete path, each before those that its arcs lead to. An object serves many lattices in
// turn, so that its memory is that of the largest.
class Topology {
 public:
  // Sort one lattice. `keep_arc` and `keep_final` (indexed as in the whole batch), where given, hide the arcs and final
  // weights for which they are 0. A lattice with a fault has no order.
  Fault sort(const LatticeView& lattice, const uint8_t* keep_arc = nullptr, const uint8_t* keep_final = nullptr);

  // The start state is first.
  const std::vector<int32_t>& order() const { return order_; }
  // Whether this state is in order().
  bool has(int32_t state) const { return useful_[state] != 0; }

 private:
  Fault reach(const LatticeView& lattice, const uint8_t* keep_arc);
  bool sort_reached(const LatticeView& lattice, const uint8_t* keep_arc);
  void trim(const LatticeView& lattice, const uint8_t* keep_arc, const uint8_t* keep_final);

  bool ascending_ = true;  // every arc leads to a higher state number, so that 0, 1, 2... is an order
  std::vector<uint8_t> reached_, useful_;
  std::vector<int32_t> order_, stack_, in_degree_;
};

// The reason why a lattice cannot be used, or "" if it can. Word ids must be in [0, num_words).
std::string describe_fault(const LatticeView& lattice, Topology& topology, int32_t num_words);

}  // namespace kaldi_mpq
