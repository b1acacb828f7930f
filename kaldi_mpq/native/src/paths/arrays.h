// SPDX-License-Identifier: Apache-2.0
// numpy arrays in and out: a BatchView of any Python object that has the attributes of kaldi_mpq.native.Lattices, and
// arrays that take over a vector's memory.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <utility>
#include <vector>

#include "../lattices.h"
#include "view.h"

namespace kaldi_mpq {

template <typename T>
using Array = pybind11::array_t<T, pybind11::array::c_style | pybind11::array::forcecast>;

// Throw unless `array` is one-dimensional with `length` elements.
inline void require_length(const pybind11::array& array, int64_t length, const char* name) {
  if (array.ndim() == 1 && array.shape(0) == length) return;
  throw pybind11::value_error(std::string(name) + " has " + std::to_string(array.size()) + " elements, expected " +
                              std::to_string(length));
}

// Throw unless `offsets` cuts 0..end into `parts` pieces; end < 0: of whatever length. Returns where it ends.
inline int64_t require_offsets(const Array<int64_t>& offsets, int64_t parts, int64_t end, const char* name) {
  require_length(offsets, parts + 1, name);
  const int64_t* data = offsets.data();
  bool good = data[0] == 0 && (end < 0 || data[parts] == end);
  for (int64_t i = 0; i < parts && good; ++i) good = data[i] <= data[i + 1];
  if (!good) throw pybind11::value_error(std::string(name) + " are not offsets from 0 to the end in ascending order");
  return data[parts];
}

// Keeps the arrays alive that its view points into. What it lets through is safe to walk, but `start` and `arc_dest`:
// Topology looks at those.
class BatchArrays {
 public:
  explicit BatchArrays(const pybind11::handle& lattices)
      : compact_(get<uint8_t>(lattices, "compact")),
        start_(get<int32_t>(lattices, "start")),
        state_offsets_(get<int64_t>(lattices, "state_offsets")),
        arc_offsets_(get<int64_t>(lattices, "arc_offsets")),
        final_tid_offsets_(get<int64_t>(lattices, "final_tid_offsets")),
        arc_tid_offsets_(get<int64_t>(lattices, "arc_tid_offsets")),
        final_graph_(get<double>(lattices, "final_graph")),
        final_acoustic_(get<double>(lattices, "final_acoustic")),
        arc_graph_(get<double>(lattices, "arc_graph")),
        arc_acoustic_(get<double>(lattices, "arc_acoustic")),
        final_tids_(get<int32_t>(lattices, "final_tids")),
        arc_word_(get<int32_t>(lattices, "arc_word")),
        arc_dest_(get<int32_t>(lattices, "arc_dest")),
        arc_tids_(get<int32_t>(lattices, "arc_tids")) {
    const int64_t size = start_.size();
    require_length(compact_, size, "compact");
    const int64_t num_states = require_offsets(state_offsets_, size, -1, "state_offsets");
    const int64_t num_arcs = require_offsets(arc_offsets_, num_states, -1, "arc_offsets");
    require_length(final_graph_, num_states, "final_graph");
    require_length(final_acoustic_, num_states, "final_acoustic");
    require_length(arc_word_, num_arcs, "arc_word");
    require_length(arc_dest_, num_arcs, "arc_dest");
    require_length(arc_graph_, num_arcs, "arc_graph");
    require_length(arc_acoustic_, num_arcs, "arc_acoustic");
    require_offsets(final_tid_offsets_, num_states, final_tids_.size(), "final_tid_offsets");
    require_offsets(arc_tid_offsets_, num_arcs, arc_tids_.size(), "arc_tid_offsets");
  }

  BatchView view() const {
    return {start_.size(),
            compact_.data(),
            start_.data(),
            state_offsets_.data(),
            arc_offsets_.data(),
            final_graph_.data(),
            final_acoustic_.data(),
            final_tid_offsets_.data(),
            final_tids_.data(),
            arc_word_.data(),
            arc_dest_.data(),
            arc_graph_.data(),
            arc_acoustic_.data(),
            arc_tid_offsets_.data(),
            arc_tids_.data()};
  }

 private:
  template <typename T>
  static Array<T> get(const pybind11::handle& lattices, const char* name) {
    return pybind11::cast<Array<T>>(lattices.attr(name));
  }

  Array<uint8_t> compact_;
  Array<int32_t> start_;
  Array<int64_t> state_offsets_, arc_offsets_, final_tid_offsets_, arc_tid_offsets_;
  Array<double> final_graph_, final_acoustic_, arc_graph_, arc_acoustic_;
  Array<int32_t> final_tids_, arc_word_, arc_dest_, arc_tids_;
};

// The vector's memory becomes the array's; nothing is copied.
template <typename T>
pybind11::array_t<T> to_numpy(std::vector<T>&& values) {
  auto* owned = new std::vector<T>(std::move(values));
  pybind11::capsule owner(owned, [](void* data) { delete static_cast<std::vector<T>*>(data); });
  return pybind11::array_t<T>(static_cast<pybind11::ssize_t>(owned->size()), owned->data(), owner);
}

// The arrays of kaldi_mpq.native.Lattices but its keys, by name.
inline pybind11::dict to_dict(Lattices&& lattices) {
  pybind11::dict out;
  out["compact"] = to_numpy(std::move(lattices.compact));
  out["start"] = to_numpy(std::move(lattices.start));
  out["state_offsets"] = to_numpy(std::move(lattices.state_offsets));
  out["arc_offsets"] = to_numpy(std::move(lattices.arc_offsets));
  out["final_graph"] = to_numpy(std::move(lattices.final_graph));
  out["final_acoustic"] = to_numpy(std::move(lattices.final_acoustic));
  out["final_tid_offsets"] = to_numpy(std::move(lattices.final_tid_offsets));
  out["final_tids"] = to_numpy(std::move(lattices.final_tids));
  out["arc_word"] = to_numpy(std::move(lattices.arc_word));
  out["arc_dest"] = to_numpy(std::move(lattices.arc_dest));
  out["arc_graph"] = to_numpy(std::move(lattices.arc_graph));
  out["arc_acoustic"] = to_numpy(std::move(lattices.arc_acoustic));
  out["arc_tid_offsets"] = to_numpy(std::move(lattices.arc_tid_offsets));
  out["arc_tids"] = to_numpy(std::move(lattices.arc_tids));
  return out;
}

}  // namespace kaldi_mpq
