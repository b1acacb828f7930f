// SPDX-License-Identifier: Apache-2.0
// kaldi_mpq.native.Lattices: the arrays of lattices.h as numpy arrays without a copy.
#include <pybind11/stl.h>

#include <utility>

#include "../lattices.h"
#include "arrays.h"
#include "bindings.h"

namespace py = pybind11;

namespace kaldi_mpq {
namespace {

constexpr char kDoc[] =
    "A batch of Kaldi lattices as flat arrays; B lattices, S states and A arcs in all.\n\n"
    "State numbers are local to a lattice, arcs are numbered through the batch. Arrays are views that may be written\n"
    "to (their lengths are fixed). Costs are -ln p. Both lattice types are held alike: an arc of a CompactLattice has\n"
    "a word and any number of transition-ids, an arc of a Lattice a word and at most one.\n\n"
    "  keys               B    list of str; bytes that are not UTF-8 are escaped (surrogateescape)\n"
    "  compact            B    uint8, 1: CompactLattice, 0: Lattice\n"
    "  start              B    int32, -1: no start state (empty lattice)\n"
    "  state_offsets      B+1  int64, states of lattice b: state_offsets[b]:state_offsets[b + 1]\n"
    "  arc_offsets        S+1  int64, arcs of state s: arc_offsets[s]:arc_offsets[s + 1]\n"
    "  final_graph        S    float64, +inf: not final\n"
    "  final_acoustic     S    float64\n"
    "  final_tid_offsets  S+1  int64, into final_tids (int32)\n"
    "  arc_word           A    int32, 0: no word\n"
    "  arc_dest           A    int32, state number within the lattice\n"
    "  arc_graph          A    float64\n"
    "  arc_acoustic       A    float64\n"
    "  arc_tid_offsets    A+1  int64, into arc_tids (int32)\n";

py::list keys_of(const Lattices& lattices) {
  py::list keys(lattices.keys.size());
  for (size_t i = 0; i < lattices.keys.size(); ++i) keys[i] = to_str(lattices.keys[i]);
  return keys;
}

void check_all(const Lattices& lattices) {
  py::gil_scoped_release release;
  check_shapes(lattices);
  for (int64_t i = 0; i < lattices.size(); ++i) check_lattice(lattices, i);
}

std::unique_ptr<Lattices> from_arrays(const py::iterable& keys, const py::object& compact, const py::object& start,
                                      const py::object& state_offsets, const py::object& arc_offsets,
                                      const py::object& final_graph, const py::object& final_acoustic,
                                      const py::object& final_tid_offsets, const py::object& final_tids,
                                      const py::object& arc_word, const py::object& arc_dest,
                                      const py::object& arc_graph, const py::object& arc_acoustic,
                                      const py::object& arc_tid_offsets, const py::object& arc_tids) {
  auto lattices = std::make_unique<Lattices>();
  for (const py::handle key : keys) lattices->keys.push_back(from_str(key));
  lattices->compact = to_vector<uint8_t>(compact, "compact");
  lattices->start = to_vector<int32_t>(start, "start");
  lattices->state_offsets = to_vector<int64_t>(state_offsets, "state_offsets");
  lattices->arc_offsets = to_vector<int64_t>(arc_offsets, "arc_offsets");
  lattices->final_graph = to_vector<double>(final_graph, "final_graph");
  lattices->final_acoustic = to_vector<double>(final_acoustic, "final_acoustic");
  lattices->final_tid_offsets = to_vector<int64_t>(final_tid_offsets, "final_tid_offsets");
  lattices->final_tids = to_vector<int32_t>(final_tids, "final_tids");
  lattices->arc_word = to_vector<int32_t>(arc_word, "arc_word");
  lattices->arc_dest = to_vector<int32_t>(arc_dest, "arc_dest");
  lattices->arc_graph = to_vector<double>(arc_graph, "arc_graph");
  lattices->arc_acoustic = to_vector<double>(arc_acoustic, "arc_acoustic");
  lattices->arc_tid_offsets = to_vector<int64_t>(arc_tid_offsets, "arc_tid_offsets");
  lattices->arc_tids = to_vector<int32_t>(arc_tids, "arc_tids");
  check_all(*lattices);
  return lattices;
}

void append_checked(const Lattices& from, int64_t index, Lattices* to) {
  check_lattice(from, index);
  append_lattice(from, index, to);
}

std::unique_ptr<Lattices> select(const Lattices& lattices, const py::object& indices) {
  const auto chosen = to_vector<int64_t>(indices, "indices");
  for (const int64_t index : chosen)
    if (index < 0 || index >= lattices.size()) throw py::index_error("no lattice " + std::to_string(index));
  auto out = std::make_unique<Lattices>();
  py::gil_scoped_release release;
  for (const int64_t index : chosen) append_checked(lattices, index, out.get());
  return out;
}

std::unique_ptr<Lattices> concat(const std::vector<const Lattices*>& parts) {
  auto out = std::make_unique<Lattices>();
  py::gil_scoped_release release;
  for (const Lattices* part : parts)
    for (int64_t i = 0; i < part->size(); ++i) append_checked(*part, i, out.get());
  return out;
}

std::string describe(const Lattices& lattices) {
  return "Lattices(" + std::to_string(lattices.size()) + " lattices, " + std::to_string(lattices.final_graph.size()) +
         " states, " + std::to_string(lattices.arc_word.size()) + " arcs)";
}

// The array keeps the Lattices alive, whose vectors never change their lengths once Python has it.
template <typename T>
auto view(std::vector<T> Lattices::* member) {
  return [member](const py::object& self) {
    std::vector<T>& values = self.cast<Lattices&>().*member;
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data(), self);
  };
}

}  // namespace

void bind_lattices(py::module_& module) {
  py::class_<Lattices> lattices(module, "Lattices", kDoc);
  lattices.attr("__module__") = "kaldi_mpq.native";
  lattices.def("__len__", &Lattices::size)
      .def("__repr__", &describe)
      .def_property_readonly("keys", &keys_of)
      .def_property_readonly("compact", view(&Lattices::compact))
      .def_property_readonly("start", view(&Lattices::start))
      .def_property_readonly("state_offsets", view(&Lattices::state_offsets))
      .def_property_readonly("arc_offsets", view(&Lattices::arc_offsets))
      .def_property_readonly("final_graph", view(&Lattices::final_graph))
      .def_property_readonly("final_acoustic", view(&Lattices::final_acoustic))
      .def_property_readonly("final_tid_offsets", view(&Lattices::final_tid_offsets))
      .def_property_readonly("final_tids", view(&Lattices::final_tids))
      .def_property_readonly("arc_word", view(&Lattices::arc_word))
      .def_property_readonly("arc_dest", view(&Lattices::arc_dest))
      .def_property_readonly("arc_graph", view(&Lattices::arc_graph))
      .def_property_readonly("arc_acoustic", view(&Lattices::arc_acoustic))
      .def_property_readonly("arc_tid_offsets", view(&Lattices::arc_tid_offsets))
      .def_property_readonly("arc_tids", view(&Lattices::arc_tids))
      .def_property_readonly("num_states", [](const Lattices& self) { return self.final_graph.size(); })
      .def_property_readonly("num_arcs", [](const Lattices& self) { return self.arc_word.size(); })
      .def_static("from_arrays", &from_arrays, py::kw_only(), py::arg("keys"), py::arg("compact"), py::arg("start"),
                  py::arg("state_offsets"), py::arg("arc_offsets"), py::arg("final_graph"), py::arg("final_acoustic"),
                  py::arg("final_tid_offsets"), py::arg("final_tids"), py::arg("arc_word"), py::arg("arc_dest"),
                  py::arg("arc_graph"), py::arg("arc_acoustic"), py::arg("arc_tid_offsets"), py::arg("arc_tids"),
                  "Return a batch of copies of the arrays. Raises LatticeError if they do not fit together.")
      .def("select", &select, py::arg("indices"), "Return a batch of the lattices at ``indices``, in that order.")
      .def_static("concat", &concat, py::arg("parts"), "Return one batch of all the lattices of several.");
}

}  // namespace kaldi_mpq
