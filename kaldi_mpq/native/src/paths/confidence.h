// SPDX-License-Identifier: Apache-2.0
// How sure a lattice is of the words on its paths, and when they were said.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace kaldi_mpq {

// Paths as shortest.h has them.
struct PathsView {
  const int64_t* lattice_offsets;
  const int64_t* arc_offsets;
  const int64_t* arcs;
};

// One element for each arc with a word, path after path. Frames are counted by transition-ids.
struct WordConfidences {
  std::vector<int32_t> begin_frame, end_frame;
  std::vector<double> confidence;
};

// The confidence of a word is the largest share of the probability, over the frames of its arc, that arcs with the same
// word have at one frame; an arc without transition-ids counts as one frame. Throws std::invalid_argument if an arc
// number is not one of the path's lattice.
WordConfidences word_confidences(const BatchView& batch, const PathsView& paths, const double* arc_posterior);

}  // namespace kaldi_mpq
