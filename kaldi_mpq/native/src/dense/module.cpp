// SPDX-License-Identifier: Apache-2.0
// Python module kaldi_mpq.native._dense; kaldi_mpq/native/dense.py says what its classes promise.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "lstm_step.h"
#include "output_layer.h"

namespace py = pybind11;

namespace kaldi_mpq::dense {
namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Numbers = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;

void require(bool good, const char* what) {
  if (!good) throw py::value_error(what);
}

const Kernels& choose(const std::string& name) {
  if (name.empty()) return best_kernels();
  const Kernels* kernels = kernels_named(name.c_str());
  if (kernels == nullptr) throw py::value_error("no kernels named " + name + " on this processor");
  return *kernels;
}

void check_rows(const Floats& x, int64_t columns) {
  require(x.ndim() == 2 && x.shape(1) == columns, "rows are not as wide as the matrix");
}

// An output layer and the arrays that it refers to.
struct Layer {
  Floats weight, bias;
  OutputLayer native;
};

std::unique_ptr<Layer> make_layer(const Floats& weight, const Floats& bias, const std::string& kernels) {
  require(weight.ndim() == 2 && bias.ndim() == 1 && weight.shape(0) == bias.shape(0), "weight is (V, E), bias is (V,)");
  require(weight.size() > 0, "weight has no element");
  const Kernels& chosen = choose(kernels);
  const float *w = weight.data(), *b = bias.data();
  const int64_t words = weight.shape(0), columns = weight.shape(1);
  const auto make = [&] {
    py::gil_scoped_release release;
    return OutputLayer(w, b, words, columns, chosen);
  };
  return std::unique_ptr<Layer>(new Layer{weight, bias, make()});
}

py::array_t<double> log_sums(const Layer& layer, const Floats& hidden, int threads) {
  check_rows(hidden, layer.native.columns());
  py::array_t<double> out(hidden.shape(0));
  const float* from = hidden.data();
  double* to = out.mutable_data();
  const int64_t n = hidden.shape(0);
  py::gil_scoped_release release;
  layer.native.log_sums(from, n, threads, to);
  return out;
}

bool below(const Numbers& numbers, int64_t count) {
  const int64_t* first = numbers.data();
  return std::all_of(first, first + numbers.size(), [&](int64_t i) { return i >= 0 && i < count; });
}

Floats logits(const Layer& layer, const Floats& hidden, const Numbers& rows, const Numbers& words, int threads) {
  check_rows(hidden, layer.native.columns());
  require(rows.ndim() == 1 && words.ndim() == 1 && rows.size() == words.size(), "rows and words are (Q,)");
  require(below(rows, hidden.shape(0)), "no such row");
  require(below(words, layer.native.words()), "no such word");
  Floats out(rows.size());
  const float* from = hidden.data();
  float* to = out.mutable_data();
  const int64_t *row = rows.data(), *word = words.data(), q = rows.size();
  py::gil_scoped_release release;
  layer.native.logits(from, row, word, q, threads, to);
  return out;
}

// For tests: what the sums of products are, and of which codes.
py::tuple integers(const Layer& layer, const Floats& hidden) {
  const OutputLayer& native = layer.native;
  check_rows(hidden, native.columns());
  const int64_t n = hidden.shape(0), chunks = native.chunks().count, columns = native.chunks().columns;
  py::array_t<int32_t> sums({n, chunks, native.words()});
  py::array_t<int16_t> rows({n, chunks, columns}), words({native.words(), chunks, columns});
  native.integer_sums(hidden.data(), n, sums.mutable_data());
  native.row_codes(hidden.data(), n, rows.mutable_data());
  native.word_codes(words.mutable_data());
  return py::make_tuple(sums, rows, words);
}

Chosen chosen(const Floats& rows, const Numbers& which, int64_t n, int64_t width) {
  require(rows.ndim() == 2 && rows.shape(1) == width, "gates are (., 4 H), cells are (., H)");
  require(which.ndim() == 1 && which.shape(0) == n, "every history needs a row of each");
  require(below(which, rows.shape(0)), "no such row");
  return {rows.data(), which.data()};
}

void step(const Floats& a, const Numbers& which_a, const Floats& b, const Numbers& which_b, const Floats& cell,
          const Numbers& which_cell, const std::optional<Floats>& peephole, Floats& new_hidden, Floats& new_cell,
          int threads, const std::string& kernels) {
  require(new_hidden.ndim() == 2 && new_cell.ndim() == 2, "new vectors are (N, H)");
  const int64_t n = new_hidden.shape(0), cells = new_hidden.shape(1);
  require(new_cell.shape(0) == n && new_cell.shape(1) == cells, "hidden and cell vectors are as many and as wide");
  const Chosen rows_a = chosen(a, which_a, n, 4 * cells), rows_b = chosen(b, which_b, n, 4 * cells);
  const Chosen old = chosen(cell, which_cell, n, cells);
  require(!peephole || (peephole->ndim() == 1 && peephole->size() == 3 * cells), "peepholes are (3 H)");
  const float* through = peephole ? peephole->data() : nullptr;
  const Kernels& native = choose(kernels);
  float *to_hidden = new_hidden.mutable_data(), *to_cell = new_cell.mutable_data();
  py::gil_scoped_release release;
  lstm_step(native, rows_a, rows_b, old, through, n, cells, threads, to_hidden, to_cell);
}

py::list names() {
  py::list out;
  for (const char* name : {"avx2", "portable"})
    if (kernels_named(name) != nullptr) out.append(name);
  return out;
}

}  // namespace

PYBIND11_MODULE(_dense, m) {
  m.def("kernels", &names, "Names of the kernels that this processor runs, the fastest first.");
  py::class_<Layer>(m, "OutputLayer")
      .def(py::init(&make_layer), py::arg("weight"), py::arg("bias"), py::arg("kernels") = "")
      .def("log_sums", &log_sums, py::arg("hidden"), py::arg("threads") = 1)
      .def("logits", &logits, py::arg("hidden"), py::arg("rows"), py::arg("words"), py::arg("threads") = 1)
      .def("integers", &integers, py::arg("hidden"));
  m.def("lstm_step", &step, py::arg("a"), py::arg("which_a"), py::arg("b"), py::arg("which_b"), py::arg("cell"),
        py::arg("which_cell"), py::arg("peephole"), py::arg("new_hidden").noconvert(),
        py::arg("new_cell").noconvert(), py::arg("threads") = 1, py::arg("kernels") = "");
}

}  // namespace kaldi_mpq::dense
