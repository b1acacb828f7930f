// SPDX-License-Identifier: Apache-2.0
// What the parts of the Python module _packed share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace kaldi_mpq::packed {

namespace py = pybind11;

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Numbers = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;

inline void require(bool good, const char* what) {
  if (!good) throw py::value_error(what);
}

inline bool below(const Numbers& numbers, int64_t limit) {
  const int64_t* values = numbers.data();
  return std::all_of(values, values + numbers.size(), [=](int64_t x) { return 0 <= x && x < limit; });
}

inline std::vector<float> copied(const Floats& x) { return {x.data(), x.data() + x.size()}; }

void bind_transformer(py::module_& m);

}  // namespace kaldi_mpq::packed
