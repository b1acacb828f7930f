// SPDX-License-Identifier: Apache-2.0
// The Transformer in the Python module _packed; kaldi_mpq/native/packed.py says what it promises.
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <utility>

#include "bindings.h"
#include "transformer.h"

namespace kaldi_mpq::packed {
namespace {

using Pair = std::pair<Floats, Floats>;                              // of a layer norm
using Product = std::pair<std::shared_ptr<Matrix>, Floats>;          // weights and bias
using BlockParts = std::tuple<Product, Product, Product, Product, Pair, Pair>;
using Shared = py::array_t<float, py::array::c_style>;               // written to, so never a copy

LayerNorm norm_of(const Pair& parts) { return {copied(parts.first), copied(parts.second)}; }
Linear linear_of(const Product& parts) { return {parts.first, copied(parts.second)}; }

std::unique_ptr<Transformer> make(std::shared_ptr<Matrix> embedding, float scale, const std::vector<BlockParts>& parts,
                                  const std::optional<Pair>& last, int64_t heads) {
  std::vector<TransformerBlock> blocks;
  for (const auto& [project, out, up, down, first, second] : parts)
    blocks.push_back({linear_of(project), linear_of(out), linear_of(up), linear_of(down), norm_of(first),
                      norm_of(second)});
  return std::make_unique<Transformer>(std::move(embedding), scale, std::move(blocks),
                                       last ? std::optional<LayerNorm>(norm_of(*last)) : std::nullopt, heads);
}

// Rows of histories: -1 in front, then rows of the arena; those at the end, which are written, distinct.
void check_histories(const Numbers& rows, int64_t limit) {
  const int64_t n = rows.shape(0), longest = rows.shape(1);
  std::vector<bool> written(limit);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t* own = rows.data() + i * longest;
    int64_t t = 0;
    while (t + 1 < longest && own[t] == -1) ++t;
    for (; t < longest; ++t) require(own[t] >= 0 && own[t] < limit, "no such row");
    require(!written[own[longest - 1]], "a row is written twice");
    written[own[longest - 1]] = true;
  }
}

py::array_t<float> step(const Transformer& model, Shared keys, Shared values, const Numbers& rows,
                        const Numbers& words, const Floats& positions, int threads) {
  const int64_t layers = model.layers(), dim = model.width();
  require(keys.ndim() == 3 && keys.shape(0) == layers && keys.shape(2) == dim, "keys are (layers, rows, E)");
  require(values.ndim() == 3 && values.shape(0) == layers && values.shape(1) == keys.shape(1) && values.shape(2) == dim,
          "values are as many and as wide as keys");
  require(rows.ndim() == 2 && words.ndim() == 1 && rows.shape(0) == words.size(), "every word has rows");
  require(words.size() == 0 || rows.shape(1) > 0, "every word has a row of its own");
  require(positions.ndim() == 2 && positions.shape(0) >= rows.shape(1) && positions.shape(1) == dim,
          "every position has an encoding");
  require(below(words, model.vocabulary()), "no such word");
  check_histories(rows, keys.shape(1));
  py::array_t<float> out({static_cast<int64_t>(words.size()), dim});
  const Arena arena{keys.mutable_data(), values.mutable_data(), keys.shape(1)};
  const Histories histories{words.data(), rows.data(), words.size(), rows.shape(1)};
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  model.step(arena, histories, positions.data(), threads, to);
  return out;
}

}  // namespace

void bind_transformer(py::module_& m) {
  py::class_<Transformer>(m, "Transformer")
      .def(py::init(&make), py::arg("embedding"), py::arg("scale"), py::arg("blocks"), py::arg("last"),
           py::arg("heads"))
      .def("step", &step, py::arg("keys").noconvert(), py::arg("values").noconvert(), py::arg("rows"),
           py::arg("words"), py::arg("positions"), py::arg("threads") = 1);
  // For tests: the layers' arithmetic of the kernels of that name.
  m.def("gelu", [](const Floats& x, const std::string& kernels) {
    py::array_t<float> out(x.size());
    std::copy(x.data(), x.data() + x.size(), out.mutable_data());
    layer_kernels(kernels.c_str()).gelu(out.mutable_data(), x.size());
    return out;
  });
}

}  // namespace kaldi_mpq::packed
