// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "archive_writer.h"
#include "number.h"

namespace kaldi_mpq {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One lattice, `Real` being the type its costs are rounded to before they are printed.
template <typename Real>
class LatticeText {
 public:
  LatticeText(const Lattices& lattices, int64_t index, std::string* out)
      : lattices_(lattices), index_(index), compact_(lattices.compact[index]), out_(out) {}

  void write() {
    const int64_t first = lattices_.state_offsets[index_], end = lattices_.state_offsets[index_ + 1];
    const int32_t start = lattices_.start[index_];
    *out_ += '\n';  // ends the line of the key
    // The first state named is the start. Without one there is no path, and Kaldi prints nothing.
    if (start >= 0) {
      append_state(first, start);
      for (int64_t state = 0; state < end - first; ++state)
        if (state != start) append_state(first, state);
    }
    *out_ += '\n';
  }

 private:
  void append_state(int64_t first, int64_t state) {
    const int64_t row = first + state;
    bool any_arc = false;
    for (int64_t arc = lattices_.arc_offsets[row]; arc < lattices_.arc_offsets[row + 1]; ++arc) {
      if (is_zero(arc)) continue;
      append_arc(state, arc);
      any_arc = true;
    }
    const double graph = lattices_.final_graph[row], acoustic = lattices_.final_acoustic[row];
    // A state that does not appear would be lost, and with it the numbering.
    if (graph == kInfinity && acoustic == kInfinity && any_arc) return;
    append_integer(state, out_);
    append_weight(graph, acoustic, lattices_.final_tids, lattices_.final_tid_offsets, row);
  }

  // No path can take such an arc, and Kaldi refuses to read it in text.
  bool is_zero(int64_t arc) const {
    const bool has_tids = compact_ && lattices_.arc_tid_offsets[arc] < lattices_.arc_tid_offsets[arc + 1];
    return lattices_.arc_graph[arc] == kInfinity && lattices_.arc_acoustic[arc] == kInfinity && !has_tids;
  }

  void append_arc(int64_t state, int64_t arc) {
    append_integer(state, out_);
    *out_ += '\t';
    append_integer(lattices_.arc_dest[arc], out_);
    *out_ += '\t';
    if (!compact_) {
      const int64_t at = lattices_.arc_tid_offsets[arc];
      append_integer(at < lattices_.arc_tid_offsets[arc + 1] ? lattices_.arc_tids[at] : 0, out_);
      *out_ += '\t';
    }
    append_integer(lattices_.arc_word[arc], out_);
    append_weight(lattices_.arc_graph[arc], lattices_.arc_acoustic[arc], lattices_.arc_tids, lattices_.arc_tid_offsets,
                  arc);
  }

  // The rest of a line. One is left out.
  void append_weight(double graph, double acoustic, const std::vector<int32_t>& tids,
                     const std::vector<int64_t>& offsets, int64_t i) {
    const int64_t begin = offsets[i], end = compact_ ? offsets[i + 1] : begin;
    if (graph != 0.0 || acoustic != 0.0 || begin < end) {
      *out_ += '\t';
      append_cost(rounded<Real>(graph), out_);
      *out_ += ',';
      append_cost(rounded<Real>(acoustic), out_);
      if (compact_) *out_ += ',';
      for (int64_t tid = begin; tid < end; ++tid) {
        if (tid > begin) *out_ += '_';
        append_integer(tids[tid], out_);
      }
    }
    *out_ += '\n';
  }

  const Lattices& lattices_;
  const int64_t index_;
  const bool compact_;
  std::string* out_;
};

}  // namespace

void append_text(const Lattices& lattices, int64_t index, bool wide, std::string* out) {
  wide ? LatticeText<double>(lattices, index, out).write() : LatticeText<float>(lattices, index, out).write();
}

}  // namespace kaldi_mpq
