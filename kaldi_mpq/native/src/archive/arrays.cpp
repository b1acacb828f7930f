// SPDX-License-Identifier: Apache-2.0
#include "arrays.h"

#include "fault.h"

namespace kaldi_mpq {
namespace {

void check_length(size_t length, int64_t expected, const char* name) {
  if (static_cast<int64_t>(length) != expected)
    throw Fault(std::string(name) + " has the wrong length")
        .expect(std::to_string(expected))
        .find(static_cast<int64_t>(length));
}

void check_end(const std::vector<int64_t>& offsets, size_t end, const char* name) {
  if (offsets.front() != 0 || offsets.back() != static_cast<int64_t>(end))
    throw Fault(std::string(name) + " do not go from the beginning to the end")
        .expect("0 to " + std::to_string(end))
        .find(std::to_string(offsets.front()) + " to " + std::to_string(offsets.back()));
}

// offsets[first..last] ascend and lie within 0..end.
void check_offsets(const std::vector<int64_t>& offsets, int64_t first, int64_t last, size_t end, const char* name) {
  bool good = offsets[first] >= 0 && offsets[last] <= static_cast<int64_t>(end);
  for (int64_t i = first; i < last && good; ++i) good = offsets[i] <= offsets[i + 1];
  if (!good) throw Fault(std::string(name) + " are not in ascending order within their array");
}

void check_start(int32_t start, int64_t num_states) {
  if (start < -1 || start >= num_states)
    throw Fault("start state out of range").expect("-1 to " + std::to_string(num_states - 1)).find(start);
}

// What the two lattice types allow: one transition-id on an arc and none on a final weight, or any number.
void check_plain_tids(const Lattices& lattices, int64_t first_state, int64_t end_state) {
  if (lattices.final_tid_offsets[first_state] != lattices.final_tid_offsets[end_state])
    throw Fault("a final weight of a Lattice (not compact) has transition-ids");
  const std::vector<int64_t>& offsets = lattices.arc_tid_offsets;
  for (int64_t arc = lattices.arc_offsets[first_state]; arc < lattices.arc_offsets[end_state]; ++arc)
    if (offsets[arc + 1] - offsets[arc] > 1)
      throw Fault("an arc of a Lattice (not compact) has too many transition-ids")
          .expect("at most 1")
          .find(offsets[arc + 1] - offsets[arc]);
}

template <typename T>
void append_range(const std::vector<T>& from, int64_t begin, int64_t end, std::vector<T>* to) {
  to->insert(to->end(), from.begin() + begin, from.begin() + end);
}

// Append the ends of pieces begin..end, moved to where the copy is.
void append_offsets(const std::vector<int64_t>& from, int64_t begin, int64_t end, std::vector<int64_t>* to) {
  const int64_t moved = to->back() - from[begin];
  for (int64_t i = begin + 1; i <= end; ++i) to->push_back(from[i] + moved);
}

template <typename T>
int64_t bytes_of(const std::vector<T>& values) {
  return static_cast<int64_t>(values.size() * sizeof(T));
}

}  // namespace

void check_shapes(const Lattices& lattices) {
  const int64_t size = lattices.size();
  check_length(lattices.compact.size(), size, "compact");
  check_length(lattices.start.size(), size, "start");
  check_length(lattices.state_offsets.size(), size + 1, "state_offsets");
  const auto num_states = static_cast<int64_t>(lattices.final_graph.size());
  check_length(lattices.final_acoustic.size(), num_states, "final_acoustic");
  check_length(lattices.arc_offsets.size(), num_states + 1, "arc_offsets");
  check_length(lattices.final_tid_offsets.size(), num_states + 1, "final_tid_offsets");
  const auto num_arcs = static_cast<int64_t>(lattices.arc_word.size());
  check_length(lattices.arc_dest.size(), num_arcs, "arc_dest");
  check_length(lattices.arc_graph.size(), num_arcs, "arc_graph");
  check_length(lattices.arc_acoustic.size(), num_arcs, "arc_acoustic");
  check_length(lattices.arc_tid_offsets.size(), num_arcs + 1, "arc_tid_offsets");
  check_end(lattices.state_offsets, lattices.final_graph.size(), "state_offsets");
  check_end(lattices.arc_offsets, lattices.arc_word.size(), "arc_offsets");
  check_end(lattices.final_tid_offsets, lattices.final_tids.size(), "final_tid_offsets");
  check_end(lattices.arc_tid_offsets, lattices.arc_tids.size(), "arc_tid_offsets");
}

void check_lattice(const Lattices& lattices, int64_t index) try {
  check_offsets(lattices.state_offsets, index, index + 1, lattices.final_graph.size(), "state_offsets");
  const int64_t first = lattices.state_offsets[index], end = lattices.state_offsets[index + 1];
  check_start(lattices.start[index], end - first);
  check_offsets(lattices.arc_offsets, first, end, lattices.arc_word.size(), "arc_offsets");
  check_offsets(lattices.final_tid_offsets, first, end, lattices.final_tids.size(), "final_tid_offsets");
  const int64_t first_arc = lattices.arc_offsets[first], end_arc = lattices.arc_offsets[end];
  check_offsets(lattices.arc_tid_offsets, first_arc, end_arc, lattices.arc_tids.size(), "arc_tid_offsets");
  for (int64_t arc = first_arc; arc < end_arc; ++arc)
    if (lattices.arc_dest[arc] < 0 || lattices.arc_dest[arc] >= end - first)
      throw Fault("an arc leads to a state that is not there")
          .expect("0 to " + std::to_string(end - first - 1))
          .find(lattices.arc_dest[arc]);
  if (!lattices.compact[index]) check_plain_tids(lattices, first, end);
} catch (Fault& fault) {
  fault.where = "lattice " + printable(lattices.keys[index]);
  throw;
}

int64_t size_in_bytes(const Lattices& lattices) {
  int64_t bytes = bytes_of(lattices.compact) + bytes_of(lattices.start) + bytes_of(lattices.state_offsets);
  bytes += bytes_of(lattices.arc_offsets) + bytes_of(lattices.final_graph) + bytes_of(lattices.final_acoustic);
  bytes += bytes_of(lattices.final_tid_offsets) + bytes_of(lattices.final_tids) + bytes_of(lattices.arc_word);
  bytes += bytes_of(lattices.arc_dest) + bytes_of(lattices.arc_graph) + bytes_of(lattices.arc_acoustic);
  return bytes + bytes_of(lattices.arc_tid_offsets) + bytes_of(lattices.arc_tids) + bytes_of(lattices.keys);
}

void truncate(Lattices* lattices, int64_t size) {
  lattices->keys.resize(size);
  lattices->compact.resize(size);
  lattices->start.resize(size);
  lattices->state_offsets.resize(size + 1);
  const int64_t num_states = lattices->num_states();
  lattices->final_graph.resize(num_states);
  lattices->final_acoustic.resize(num_states);
  lattices->arc_offsets.resize(num_states + 1);
  lattices->final_tid_offsets.resize(num_states + 1);
  lattices->final_tids.resize(lattices->final_tid_offsets.back());
  const int64_t num_arcs = lattices->num_arcs();
  lattices->arc_word.resize(num_arcs);
  lattices->arc_dest.resize(num_arcs);
  lattices->arc_graph.resize(num_arcs);
  lattices->arc_acoustic.resize(num_arcs);
  lattices->arc_tid_offsets.resize(num_arcs + 1);
  lattices->arc_tids.resize(lattices->arc_tid_offsets.back());
}

void append_lattice(const Lattices& from, int64_t index, Lattices* to) {
  to->keys.push_back(from.keys[index]);
  to->compact.push_back(from.compact[index]);
  to->start.push_back(from.start[index]);
  const int64_t state = from.state_offsets[index], end_state = from.state_offsets[index + 1];
  to->state_offsets.push_back(to->state_offsets.back() + end_state - state);
  append_range(from.final_graph, state, end_state, &to->final_graph);
  append_range(from.final_acoustic, state, end_state, &to->final_acoustic);
  append_offsets(from.final_tid_offsets, state, end_state, &to->final_tid_offsets);
  append_range(from.final_tids, from.final_tid_offsets[state], from.final_tid_offsets[end_state], &to->final_tids);
  const int64_t arc = from.arc_offsets[state], end_arc = from.arc_offsets[end_state];
  append_offsets(from.arc_offsets, state, end_state, &to->arc_offsets);
  append_range(from.arc_word, arc, end_arc, &to->arc_word);
  append_range(from.arc_dest, arc, end_arc, &to->arc_dest);
  append_range(from.arc_graph, arc, end_arc, &to->arc_graph);
  append_range(from.arc_acoustic, arc, end_arc, &to->arc_acoustic);
  append_offsets(from.arc_tid_offsets, arc, end_arc, &to->arc_tid_offsets);
  append_range(from.arc_tids, from.arc_tid_offsets[arc], from.arc_tid_offsets[end_arc], &to->arc_tids);
}

}  // namespace kaldi_mpq
