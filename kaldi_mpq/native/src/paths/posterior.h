// SPDX-License-Identifier: Apache-2.0
// What share of a lattice's probability each arc carries (log semiring), and how far the best path through each arc is
// behind the best path of all (tropical semiring).
#pragma once

#include <vector>

#include "shortest.h"
#include "topology.h"
#include "view.h"

namespace kaldi_mpq {

// Per arc (A), per state (S) for its final weight, and per lattice (B).
struct Posteriors {
  std::vector<double> arc, final, total_logp;
};

// Posterior probabilities in [0, 1]; a lattice that cannot be used has zeros, and -inf in all.
Posteriors forward_backward(const BatchView& batch, const Scales& scales);

// Which arcs and final weights lie on a path whose cost is within `beam` of the best path of their lattice.
struct Kept {
  std::vector<uint8_t> arc, final;
};
Kept within_beam(const BatchView& batch, double beam, const Scales& scales);

}  // namespace kaldi_mpq
