// SPDX-License-Identifier: Apache-2.0
// Lattices with at most one path for each word string, the best one, and no arc without a word.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../lattices.h"
#include "view.h"

namespace kaldi_mpq {

struct DeterminizeOptions {
  Scales scales;          // for saying which path is best
  double beam;            // word strings whose best path is that much worse than the best of all may be left out
  double delta;           // weights are taken for equal if neither cost differs by more
  int64_t max_arcs;       // of one result
  int64_t max_bytes;      // of memory for one lattice, roughly
};

// Lattices without keys; states are numbered in no particular order, the start is 0. Where a reason is not "", it says
// why that lattice could not be determinized; it is then empty.
struct Determinized {
  Lattices lattices;
  std::vector<std::string> reasons;
};
Determinized determinize(const BatchView& batch, const DeterminizeOptions& options);

// For each lattice, whether all of its useful arcs have words and none leaves its state with the word of another.
std::vector<uint8_t> deterministic(const BatchView& batch);

}  // namespace kaldi_mpq
