// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "archive_writer.h"
#include "fst_format.h"

namespace kaldi_mpq {
namespace {

constexpr int32_t kFlags = 0;
// Expanded and mutable. Kaldi trusts these bits: claiming more may be wrong, and without "expanded" the next program that
// copies the lattice into a pipe fails.
constexpr uint64_t kProperties = 3;

const char* arc_type(bool compact, bool wide) {
  if (compact) return wide ? "compactlattice84" : "compactlattice44";
  return wide ? "lattice8" : "lattice4";
}

// Writes into memory that is large enough.
class Bytes {
 public:
  explicit Bytes(char* at) : at_(at) {}

  template <typename T>
  void put(T value) {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }
  void put(const char* bytes, size_t size) {
    if (size > 0) std::memcpy(at_, bytes, size);
    at_ += size;
  }
  void put_name(const char* name) {
    put(static_cast<int32_t>(std::strlen(name)));
    put(name, std::strlen(name));
  }

 private:
  char* at_;
};

template <typename Real, bool compact>
class LatticeBytes {
 public:
  LatticeBytes(const Lattices& lattices, int64_t index, std::string* out)
      : lattices_(lattices),
        first_state_(lattices.state_offsets[index]),
        end_state_(lattices.state_offsets[index + 1]),
        start_(lattices.start[index]),
        out_(grow(out)) {}

  void write() {
    put_header();
    for (int64_t state = first_state_; state < end_state_; ++state) put_state(state);
  }

 private:
  char* grow(std::string* out) const {
    const size_t before = out->size();
    out->resize(before + size());
    return out->data() + before;
  }

  size_t size() const {
    const int64_t first_arc = lattices_.arc_offsets[first_state_], end_arc = lattices_.arc_offsets[end_state_];
    const auto states = static_cast<size_t>(end_state_ - first_state_), arcs = static_cast<size_t>(end_arc - first_arc);
    size_t bytes = 52 + std::strlen(kFstType) + std::strlen(arc_type(compact, wide));
    bytes += states * (kWeight + sizeof(int64_t)) + arcs * (3 * sizeof(int32_t) + kWeight);
    if (!compact) return bytes;
    const int64_t tids = lattices_.final_tid_offsets[end_state_] - lattices_.final_tid_offsets[first_state_] +
                         lattices_.arc_tid_offsets[end_arc] - lattices_.arc_tid_offsets[first_arc];
    return bytes + static_cast<size_t>(tids) * sizeof(int32_t);
  }

  void put_header() {
    out_.put(kFstMagic);
    out_.put_name(kFstType);
    out_.put_name(arc_type(compact, wide));
    out_.put(kFstVersion);
    out_.put(kFlags);
    out_.put(kProperties);
    out_.put(static_cast<int64_t>(start_));
    out_.put(end_state_ - first_state_);
    out_.put(int64_t{0});  // number of arcs: Kaldi writes 0
  }

  void put_state(int64_t state) {
    put_weight(lattices_.final_graph[state], lattices_.final_acoustic[state]);
    if (compact) put_tids(lattices_.final_tids, lattices_.final_tid_offsets, state);
    const int64_t first_arc = lattices_.arc_offsets[state], end_arc = lattices_.arc_offsets[state + 1];
    out_.put(end_arc - first_arc);
    for (int64_t arc = first_arc; arc < end_arc; ++arc) put_arc(arc);
  }

  void put_arc(int64_t arc) {
    const int32_t word = lattices_.arc_word[arc];
    out_.put(compact ? word : only_tid(arc));
    out_.put(word);
    put_weight(lattices_.arc_graph[arc], lattices_.arc_acoustic[arc]);
    if (compact) put_tids(lattices_.arc_tids, lattices_.arc_tid_offsets, arc);
    out_.put(lattices_.arc_dest[arc]);
  }

  int32_t only_tid(int64_t arc) const {
    const int64_t at = lattices_.arc_tid_offsets[arc];
    return at < lattices_.arc_tid_offsets[arc + 1] ? lattices_.arc_tids[at] : 0;
  }

  void put_tids(const std::vector<int32_t>& tids, const std::vector<int64_t>& offsets, int64_t i) {
    const auto count = static_cast<size_t>(offsets[i + 1] - offsets[i]);
    out_.put(static_cast<int32_t>(count));
    out_.put(reinterpret_cast<const char*>(tids.data() + offsets[i]), count * sizeof(int32_t));
  }

  void put_weight(double graph, double acoustic) {
    out_.put(rounded<Real>(graph));
    out_.put(rounded<Real>(acoustic));
  }

  static constexpr bool wide = sizeof(Real) == sizeof(double);
  static constexpr size_t kWeight = 2 * sizeof(Real) + (compact ? sizeof(int32_t) : 0);

  const Lattices& lattices_;
  const int64_t first_state_, end_state_;
  const int32_t start_;
  Bytes out_;
};

}  // namespace

void append_binary(const Lattices& lattices, int64_t index, bool wide, std::string* out) {
  if (lattices.compact[index]) {
    wide ? LatticeBytes<double, true>(lattices, index, out).write()
         : LatticeBytes<float, true>(lattices, index, out).write();
  } else {
    wide ? LatticeBytes<double, false>(lattices, index, out).write()
         : LatticeBytes<float, false>(lattices, index, out).write();
  }
}

}  // namespace kaldi_mpq
