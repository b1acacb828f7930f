// SPDX-License-Identifier: Apache-2.0
// Between Python's types and those of the archive code.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "fault.h"

namespace kaldi_mpq {

// Keys are bytes in files; those that are not UTF-8 survive as Python's file names do.
inline pybind11::str to_str(const std::string& text) {
  PyObject* decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape");
  if (decoded == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::str>(decoded);
}

inline std::string from_str(const pybind11::handle& text) {
  if (!PyUnicode_Check(text.ptr())) throw pybind11::type_error("a key is a str");
  PyObject* encoded = PyUnicode_AsEncodedString(text.ptr(), "utf-8", "surrogateescape");
  if (encoded == nullptr) throw pybind11::error_already_set();
  return std::string(pybind11::reinterpret_steal<pybind11::bytes>(encoded));
}

// A one-dimensional array as a vector. Integers must be integers and fit; nothing is cut off silently.
template <typename T>
std::vector<T> to_vector(const pybind11::handle& values, const char* name) {
  namespace py = pybind11;
  using Wide = std::conditional_t<std::is_integral_v<T>, int64_t, T>;
  const py::array any = py::array::ensure(values);
  if (!any || any.ndim() != 1) throw Fault(std::string(name) + " is not a one-dimensional array");
  const bool integers = std::string("biu").find(any.dtype().kind()) != std::string::npos || any.size() == 0;
  const bool numbers = integers || any.dtype().kind() == 'f';
  if (std::is_integral_v<T> ? !integers : !numbers)
    throw Fault(std::string(name) + " has the wrong type")
        .expect(std::is_integral_v<T> ? "integers" : "real numbers")
        .find(std::string(py::str(any.dtype())));
  if (py::isinstance<py::array_t<T, py::array::c_style>>(any)) {
    const auto same = py::reinterpret_borrow<py::array_t<T, py::array::c_style>>(any);
    return std::vector<T>(same.data(), same.data() + same.size());
  }
  const auto wide = py::array_t<Wide, py::array::c_style | py::array::forcecast>::ensure(any);
  std::vector<T> out(static_cast<size_t>(wide.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<T>(wide.data()[i]);
    if (std::is_integral_v<T> && static_cast<Wide>(out[i]) != wide.data()[i])
      throw Fault(std::string(name) + " has a value out of range").find(std::to_string(wide.data()[i]));
  }
  return out;
}

// The class kaldi_mpq.native.Lattices.
void bind_lattices(pybind11::module_& module);

}  // namespace kaldi_mpq
