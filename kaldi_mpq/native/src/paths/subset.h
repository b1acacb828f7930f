// SPDX-License-Identifier: Apache-2.0
// New lattices out of parts of old ones: some of their arcs, or some of their paths.
#pragma once

#include <cstdint>
#include <string>

#include "../lattices.h"
#include "view.h"

namespace kaldi_mpq {

// Return lattices (without keys) of the arcs and final weights whose flag is not 0, less those that then lie on no
// complete path. States are in topological order, the start first. What cannot be used becomes an empty lattice.
Lattices subset(const BatchView& batch, const uint8_t* keep_arc, const uint8_t* keep_final);

// Paths as shortest.h has them, and new graph costs for their arcs and ends.
struct RescoredPaths {
  const int64_t* lattice_offsets;
  const int64_t* arc_offsets;
  const int64_t* arcs;
  const int64_t* final_state;
  const double* arc_graph;    // parallel to `arcs`
  const double* final_graph;  // one for each path
};

// Return lattices (without keys) that accept exactly the paths: one CompactLattice each, a tree that shares prefixes.
// Throws std::invalid_argument if paths disagree on the graph cost of a shared arc, or if a path comes twice.
Lattices path_lattices(const BatchView& batch, const RescoredPaths& paths);

}  // namespace kaldi_mpq
