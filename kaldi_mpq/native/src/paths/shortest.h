// SPDX-License-Identifier: Apache-2.0
// The n shortest paths of each lattice, exactly.
#pragma once

#include <cstdint>
#include <vector>

#include "topology.h"
#include "view.h"

namespace kaldi_mpq {

// The cheapest way from each useful state to an end, and its first step.
class CostToGo {
 public:
  void compute(const LatticeView& lattice, const Topology& topology, const Scales& scales);

  double operator[](int32_t state) const { return cost_[state]; }
  // An arc, or kFinal. Among equals: stopping, then the first arc.
  int64_t best_exit(int32_t state) const { return best_exit_[state]; }

 private:
  std::vector<double> cost_;
  std::vector<int64_t> best_exit_;
};

// Paths of B lattices, best first. Arc and state numbers are those of the whole batch, costs are unscaled.
struct PathBatch {
  std::vector<int64_t> lattice_offsets{0};  // B + 1
  std::vector<int64_t> arc_offsets{0};      // P + 1
  std::vector<int64_t> arcs;
  std::vector<int64_t> final_state;  // P
  std::vector<double> graph;         // P
  std::vector<double> acoustic;      // P
};

// Find the n paths of lowest cost of each lattice; two paths differ in at least one arc. A lattice that cannot be used
// has none. Equal costs are ordered by the search, the same way every time.
PathBatch shortest_paths(const BatchView& batch, int64_t n, const Scales& scales);

}  // namespace kaldi_mpq
