// SPDX-License-Identifier: Apache-2.0
// Python module kaldi_mpq.native._paths; kaldi_mpq/native/paths.py says what its functions promise.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "arrays.h"
#include "confidence.h"
#include "determinize.h"
#include "posterior.h"
#include "shortest.h"
#include "subset.h"
#include "topology.h"

namespace py = pybind11;

namespace kaldi_mpq {
namespace {

// Run `work` without Python's global lock: it touches no Python object.
template <typename Work>
auto unlocked(Work&& work) {
  py::gil_scoped_release release;
  return work();
}

py::dict py_shortest_paths(const py::object& lattices, int64_t n, double acoustic, double graph, double word_penalty) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  PathBatch paths = unlocked([&] { return shortest_paths(batch, n, {graph, acoustic, word_penalty}); });
  py::dict out;
  out["lattice_offsets"] = to_numpy(std::move(paths.lattice_offsets));
  out["arc_offsets"] = to_numpy(std::move(paths.arc_offsets));
  out["arcs"] = to_numpy(std::move(paths.arcs));
  out["final_state"] = to_numpy(std::move(paths.final_state));
  out["graph"] = to_numpy(std::move(paths.graph));
  out["acoustic"] = to_numpy(std::move(paths.acoustic));
  return out;
}

std::vector<std::optional<std::string>> py_check(const py::object& lattices, int32_t num_words) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  return unlocked([&] {
    Topology topology;
    std::vector<std::optional<std::string>> reasons(batch.size);
    for (int64_t i = 0; i < batch.size; ++i) {
      std::string reason = describe_fault(batch[i], topology, num_words);
      if (!reason.empty()) reasons[i] = std::move(reason);
    }
    return reasons;
  });
}

py::tuple py_forward_backward(const py::object& lattices, double acoustic, double graph) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  Posteriors out = unlocked([&] { return forward_backward(batch, {graph, acoustic, 0.0}); });
  return py::make_tuple(to_numpy(std::move(out.arc)), to_numpy(std::move(out.final)),
                        to_numpy(std::move(out.total_logp)));
}

py::dict py_prune(const py::object& lattices, double beam, double acoustic, double graph) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  return to_dict(unlocked([&] {
    const Kept kept = within_beam(batch, beam, {graph, acoustic, 0.0});
    return subset(batch, kept.arc.data(), kept.final.data());
  }));
}

py::dict py_subset(const py::object& lattices, const Array<uint8_t>& keep_arc, const Array<uint8_t>& keep_final) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  require_length(keep_arc, batch.num_arcs(), "keep_arc");
  require_length(keep_final, batch.num_states(), "keep_final");
  const uint8_t *arc = keep_arc.data(), *final = keep_final.data();
  return to_dict(unlocked([&] { return subset(batch, arc, final); }));
}

py::tuple py_useful_states(const py::object& lattices) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  std::vector<int64_t> offsets{0}, states;
  unlocked([&] {
    Topology topology;
    for (int64_t i = 0; i < batch.size; ++i) {
      topology.sort(batch[i]);
      for (const int32_t state : topology.order()) states.push_back(batch.state_offsets[i] + state);
      offsets.push_back(static_cast<int64_t>(states.size()));
    }
  });
  return py::make_tuple(to_numpy(std::move(offsets)), to_numpy(std::move(states)));
}

py::dict py_path_lattices(const py::object& lattices, const Array<int64_t>& lattice_offsets,
                          const Array<int64_t>& arc_offsets, const Array<int64_t>& arcs,
                          const Array<int64_t>& final_state, const Array<double>& arc_graph,
                          const Array<double>& final_graph) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  const int64_t num_paths = require_offsets(lattice_offsets, batch.size, final_state.size(), "lattice_offsets");
  require_offsets(arc_offsets, num_paths, arcs.size(), "arc_offsets");
  require_length(final_state, num_paths, "final_state");
  require_length(arc_graph, arcs.size(), "arc_graph");
  require_length(final_graph, num_paths, "final_graph");
  const RescoredPaths paths{lattice_offsets.data(), arc_offsets.data(), arcs.data(),
                            final_state.data(),     arc_graph.data(),   final_graph.data()};
  return to_dict(unlocked([&] { return path_lattices(batch, paths); }));
}

py::tuple py_determinize(const py::object& lattices, double acoustic, double graph, double beam, double delta,
                         int64_t max_arcs, int64_t max_bytes) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  const DeterminizeOptions options{{graph, acoustic, 0.0}, beam, delta, max_arcs, max_bytes};
  Determinized out = unlocked([&] { return determinize(batch, options); });
  return py::make_tuple(to_dict(std::move(out.lattices)), std::move(out.reasons));
}

py::array_t<uint8_t> py_deterministic(const py::object& lattices) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  return to_numpy(unlocked([&] { return deterministic(batch); }));
}

py::tuple py_word_confidences(const py::object& lattices, const Array<int64_t>& lattice_offsets,
                              const Array<int64_t>& arc_offsets, const Array<int64_t>& arcs,
                              const Array<double>& arc_posterior) {
  const BatchArrays arrays(lattices);
  const BatchView batch = arrays.view();
  const int64_t num_paths = require_offsets(lattice_offsets, batch.size, -1, "lattice_offsets");
  require_offsets(arc_offsets, num_paths, arcs.size(), "arc_offsets");
  require_length(arc_posterior, batch.num_arcs(), "arc_posterior");
  const PathsView paths{lattice_offsets.data(), arc_offsets.data(), arcs.data()};
  const double* posterior = arc_posterior.data();
  WordConfidences out = unlocked([&] { return word_confidences(batch, paths, posterior); });
  return py::make_tuple(to_numpy(std::move(out.begin_frame)), to_numpy(std::move(out.end_frame)),
                        to_numpy(std::move(out.confidence)));
}

}  // namespace
}  // namespace kaldi_mpq

PYBIND11_MODULE(_paths, m) {
  using namespace kaldi_mpq;
  m.doc() = "Paths, posteriors and parts of lattices; use kaldi_mpq.native.paths.";
  m.def("shortest_paths", &py_shortest_paths, py::arg("lattices"), py::arg("n"), py::arg("acoustic_scale"),
        py::arg("graph_scale"), py::arg("word_penalty"));
  m.def("check", &py_check, py::arg("lattices"), py::arg("num_words"));
  m.def("forward_backward", &py_forward_backward, py::arg("lattices"), py::arg("acoustic_scale"),
        py::arg("graph_scale"));
  m.def("prune", &py_prune, py::arg("lattices"), py::arg("beam"), py::arg("acoustic_scale"), py::arg("graph_scale"));
  m.def("subset", &py_subset, py::arg("lattices"), py::arg("keep_arc"), py::arg("keep_final"));
  m.def("useful_states", &py_useful_states, py::arg("lattices"));
  m.def("path_lattices", &py_path_lattices, py::arg("lattices"), py::arg("lattice_offsets"), py::arg("arc_offsets"),
        py::arg("arcs"), py::arg("final_state"), py::arg("arc_graph"), py::arg("final_graph"));
  m.def("determinize", &py_determinize, py::arg("lattices"), py::arg("acoustic_scale"), py::arg("graph_scale"),
        py::arg("beam"), py::arg("delta"), py::arg("max_arcs"), py::arg("max_bytes"));
  m.def("deterministic", &py_deterministic, py::arg("lattices"));
  m.def("word_confidences", &py_word_confidences, py::arg("lattices"), py::arg("lattice_offsets"),
        py::arg("arc_offsets"), py::arg("arcs"), py::arg("arc_posterior"));
}
