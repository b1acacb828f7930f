// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "determinize.h"
#include "topology.h"

namespace kaldi_mpq {
namespace {

bool is_deterministic(const LatticeView& lattice, const Topology& topology, std::vector<int32_t>& words) {
  for (const int32_t state : topology.order()) {
    words.clear();
    for (int64_t arc = lattice.arc_begin[state]; arc < lattice.arc_begin[state + 1]; ++arc) {
      if (!lattice.has_arc(arc) || !topology.has(lattice.arc_dest[arc])) continue;
      if (lattice.arc_word[arc] == 0) return false;
      words.push_back(lattice.arc_word[arc]);
    }
    std::sort(words.begin(), words.end());
    if (std::adjacent_find(words.begin(), words.end()) != words.end()) return false;
  }
  return true;
}

}  // namespace

std::vector<uint8_t> deterministic(const BatchView& batch) {
  std::vector<uint8_t> out(batch.size, 0);
  std::vector<int32_t> words;
  Topology topology;
  for (int64_t i = 0; i < batch.size; ++i) {
    const LatticeView lattice = batch[i];
    out[i] = topology.sort(lattice) == Fault::kNone && is_deterministic(lattice, topology, words);
  }
  return out;
}

}  // namespace kaldi_mpq
