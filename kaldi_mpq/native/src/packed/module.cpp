// SPDX-License-Identifier: Apache-2.0
// Python module kaldi_mpq.native._packed; kaldi_mpq/native/packed.py says what its classes promise.
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "bindings.h"
#include "lstm.h"
#include "matrix.h"
#include "output_layer.h"
#include "product.h"

namespace kaldi_mpq::packed {
namespace {

using Bytes = py::array_t<uint8_t, py::array::c_style>;

std::shared_ptr<Matrix> make_matrix(int64_t columns, int64_t block, int activation_bits, float clip,
                                    const std::string& name) {
  const Kernels* kernels = name.empty() ? &best_kernels() : kernels_named(name.c_str());
  if (kernels == nullptr) throw py::value_error("no kernels named " + name + " on this processor");
  return std::make_shared<Matrix>(columns, block, activation_bits, clip, *kernels);
}

void add_codes(Matrix& matrix, int bits, const Bytes& packed, const Floats& scales) {
  require(packed.ndim() == 1 && scales.ndim() == 2, "codes are a vector, scales (rows, segments)");
  require(scales.shape(1) == matrix.segments().count, "every segment of a row has a scale");
  py::gil_scoped_release release;
  matrix.add_codes(bits, scales.shape(0), packed.data(), packed.size(), scales.data());
}

void add_values(Matrix& matrix, const Floats& values, bool half) {
  require(values.ndim() == 2 && values.shape(1) == matrix.columns(), "values are (rows, columns)");
  matrix.add_values(values.shape(0), values.data(), half);
}

void check_rows(const Floats& x, int64_t columns) {
  require(x.ndim() == 2 && x.shape(1) == columns, "rows are not as wide as the matrix");
}

py::array_t<float> product(const Matrix& matrix, const Floats& x, const std::optional<Floats>& bias, int threads) {
  check_rows(x, matrix.columns());
  require(!bias || (bias->ndim() == 1 && bias->size() == matrix.rows()), "a bias has a number for each row");
  py::array_t<float> out({static_cast<int64_t>(x.shape(0)), matrix.rows()});
  const float* from_bias = bias ? bias->data() : nullptr;
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  multiply(matrix, from_bias, x.data(), nullptr, x.shape(0), threads, to);
  return out;
}

py::array_t<float> rows(const Matrix& matrix, const Numbers& which) {
  require(which.ndim() == 1 && below(which, matrix.rows()), "no such row");
  py::array_t<float> out({static_cast<int64_t>(which.size()), matrix.columns()});
  for (int64_t i = 0; i < which.size(); ++i) matrix.row(which.data()[i], out.mutable_data() + i * matrix.columns());
  return out;
}

py::array_t<int8_t> codes(const Matrix& matrix) {
  py::array_t<int8_t> out({matrix.rows(), matrix.columns()});
  matrix.codes(out.mutable_data());
  return out;
}

// For tests: (segments, n, rows) sums of products, before any scale, and the (n, columns) numbers of x in them.
py::tuple integers(const Matrix& matrix, const Floats& x) {
  check_rows(x, matrix.columns());
  Forms forms = matrix.forms();
  require(!forms.floats, "no whole numbers: activations or weights are floats");
  forms.words = true;
  const Segments& segments = matrix.segments();
  const int64_t n = x.shape(0);
  Activations packed(segments, forms);
  packed.pack(x.data(), nullptr, n);
  py::array_t<int32_t> sums({segments.count, n, matrix.rows()});
  std::vector<int32_t> panel(segments.count * n * kPanel);
  for (int64_t p = 0; p < matrix.panels(); ++p) {
    matrix.integer_sums(packed, p, panel.data());
    for (int64_t s = 0; s < segments.count; ++s)
      for (int64_t i = 0; i < n; ++i)
        for (int64_t v = 0; v < matrix.rows_of(p); ++v)
          *sums.mutable_data(s, i, matrix.first_row(p) + v) = panel[(s * n + i) * kPanel + v];
  }
  py::array_t<int16_t> numbers({n, segments.columns});
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < segments.columns; ++k)
      *numbers.mutable_data(i, k) =
          packed.words(i)[word_place(k / segments.each * segments.padded_each() + k % segments.each)];
  return py::make_tuple(sums, numbers);
}

std::unique_ptr<OutputLayer> make_output(std::shared_ptr<Matrix> matrix, const Floats& bias, bool cheap) {
  require(matrix->rows() > 0 && bias.ndim() == 1 && bias.size() == matrix->rows(), "every word has a bias");
  return std::make_unique<OutputLayer>(std::move(matrix), bias.data(), cheap);
}

py::array_t<double> log_sums(const OutputLayer& layer, const Floats& hidden, int threads) {
  check_rows(hidden, layer.matrix().columns());
  py::array_t<double> out(hidden.shape(0));
  double* to = out.mutable_data();
  py::gil_scoped_release release;
  layer.log_sums(hidden.data(), hidden.shape(0), threads, to);
  return out;
}

py::array_t<float> logits(const OutputLayer& layer, const Floats& hidden, const Numbers& which, const Numbers& words,
                          int threads) {
  check_rows(hidden, layer.matrix().columns());
  require(which.ndim() == 1 && words.ndim() == 1 && which.size() == words.size(), "a question is a row and a word");
  require(below(which, hidden.shape(0)), "no such row");
  require(below(words, layer.matrix().rows()), "no such word");
  py::array_t<float> out(which.size());
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  layer.logits(hidden.data(), which.data(), words.data(), which.size(), threads, to);
  return out;
}

using LayerParts = std::tuple<std::shared_ptr<Matrix>, std::shared_ptr<Matrix>, Floats, std::optional<Floats>>;

std::unique_ptr<Lstm> make_lstm(std::shared_ptr<Matrix> embedding, const std::vector<LayerParts>& parts,
                                std::shared_ptr<Matrix> projection) {
  std::vector<LstmLayer> layers;
  for (const auto& [input, recurrent, bias, peephole] : parts)
    layers.push_back({input, recurrent, copied(bias), peephole ? copied(*peephole) : std::vector<float>()});
  return std::make_unique<Lstm>(std::move(embedding), std::move(layers), std::move(projection));
}

py::tuple advance(const Lstm& lstm, const Floats& hidden, const Floats& cell, const Numbers& parents,
                  const Numbers& words, int threads) {
  const int64_t layers = lstm.layers(), cells = lstm.cells();
  require(hidden.ndim() == 3 && hidden.shape(0) == layers && hidden.shape(2) == cells, "states are (layers, rows, H)");
  const int64_t rows = hidden.shape(1), n = words.size();
  require(cell.ndim() == 3 && cell.shape(0) == layers && cell.shape(1) == rows && cell.shape(2) == cells,
          "hidden and cell vectors are as many and as wide");
  require(words.ndim() == 1 && parents.ndim() == 1 && parents.size() == n, "every word has a parent");
  require(below(parents, rows), "no such row");
  require(below(words, lstm.vocabulary()), "no such word");
  py::array_t<float> out({n, lstm.width()}), new_hidden({layers, n, cells}), new_cell({layers, n, cells});
  float *to = out.mutable_data(), *to_hidden = new_hidden.mutable_data(), *to_cell = new_cell.mutable_data();
  {
    py::gil_scoped_release release;
    lstm.advance({hidden.data(), cell.data(), rows}, parents.data(), words.data(), n, threads, to, to_hidden, to_cell);
  }
  return py::make_tuple(out, new_hidden, new_cell);
}

py::list names() {
  py::list out;
  for (const char* name : {"vnni", "avx2", "portable"})
    if (kernels_named(name) != nullptr) out.append(name);
  return out;
}

}  // namespace

PYBIND11_MODULE(_packed, m) {
  m.def("kernels", &names, "Names of the kernels that this processor runs, the fastest first.");
  py::class_<Matrix, std::shared_ptr<Matrix>>(m, "Matrix")
      .def(py::init(&make_matrix), py::arg("columns"), py::arg("block"), py::arg("activation_bits"),
           py::arg("clip") = 0.0f, py::arg("kernels") = "")
      .def("add_codes", &add_codes, py::arg("bits"), py::arg("packed").noconvert(), py::arg("scales"))
      .def("add_values", &add_values, py::arg("values"), py::arg("half"))
      .def("multiply", &product, py::arg("x"), py::arg("bias"), py::arg("threads") = 1)
      .def("rows", &rows, py::arg("which"))
      .def("codes", &codes)
      .def("integers", &integers, py::arg("x"))
      .def_property_readonly("shape", [](const Matrix& self) { return py::make_tuple(self.rows(), self.columns()); })
      .def_property_readonly("bytes", &Matrix::bytes);
  py::class_<OutputLayer>(m, "OutputLayer")
      .def(py::init(&make_output), py::arg("matrix"), py::arg("bias"), py::arg("cheap") = false)
      .def("log_sums", &log_sums, py::arg("hidden"), py::arg("threads") = 1)
      .def("logits", &logits, py::arg("hidden"), py::arg("rows"), py::arg("words"), py::arg("threads") = 1);
  py::class_<Lstm>(m, "Lstm")
      .def(py::init(&make_lstm), py::arg("embedding"), py::arg("layers"), py::arg("projection") = nullptr)
      .def("advance", &advance, py::arg("hidden"), py::arg("cell"), py::arg("parents"), py::arg("words"),
           py::arg("threads") = 1);
  bind_transformer(m);
}

}  // namespace kaldi_mpq::packed
