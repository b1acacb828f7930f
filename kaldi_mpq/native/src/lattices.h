// SPDX-License-Identifier: Apache-2.0
// A batch of Kaldi lattices as flat arrays: what the archive reader fills and every algorithm walks.
//
// Both of Kaldi's lattice types are held alike. A CompactLattice arc has a word and any number of transition-ids, and a
// final weight may have some too; a (non-compact) Lattice arc has a word and at most one, a final weight none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kaldi_mpq {

// B lattices, S states, A arcs in all. States and arcs of one lattice are contiguous; state numbers are local to it.
struct Lattices {
  std::vector<std::string> keys;                   // B
  std::vector<uint8_t> compact;                    // B, 1: CompactLattice, 0: Lattice
  std::vector<int32_t> start;                      // B, -1: empty lattice
  std::vector<int64_t> state_offsets{0};           // B + 1
  std::vector<int64_t> arc_offsets{0};             // S + 1
  std::vector<double> final_graph;                 // S, +inf: not final
  std::vector<double> final_acoustic;              // S
  std::vector<int64_t> final_tid_offsets{0};       // S + 1
  std::vector<int32_t> final_tids;
  std::vector<int32_t> arc_word;                   // A, 0: no word
  std::vector<int32_t> arc_dest;                   // A, state number within the lattice
  std::vector<double> arc_graph;                   // A, costs: -ln p
  std::vector<double> arc_acoustic;                // A
  std::vector<int64_t> arc_tid_offsets{0};         // A + 1
  std::vector<int32_t> arc_tids;                   // transition-ids

  int64_t size() const { return static_cast<int64_t>(keys.size()); }
  int64_t num_states() const { return state_offsets.back(); }
  int64_t num_arcs() const { return arc_offsets.back(); }
};

}  // namespace kaldi_mpq
