// SPDX-License-Identifier: Apache-2.0
// Python module kaldi_mpq.native._ngram: n-gram language models and the costs of sentences under them.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>

#include "arpa.h"
#include "automaton.h"
#include "cheapest.h"
#include "const_arpa.h"
#include "fault.h"
#include "openfst.h"
#include "score_batch.h"

namespace py = pybind11;

namespace kaldi_mpq {
namespace {

using Offsets = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;
using Words = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

// What numpy gives must be consistent before it is walked without bounds checks.
void check_sentences(const Offsets& offsets, const Words& words) {
  if (offsets.ndim() != 1 || words.ndim() != 1 || offsets.size() == 0)
    throw py::value_error("word_offsets (P + 1) and words (W) are one-dimensional, and P is at least 0");
  const int64_t* at = offsets.data();
  if (at[0] != 0 || at[offsets.size() - 1] != words.size())
    throw py::value_error("word_offsets goes from 0 to the number of words");
  for (int64_t i = 1; i < offsets.size(); ++i)
    if (at[i] < at[i - 1]) throw py::value_error("word_offsets decreases");
  for (int64_t i = 0; i < words.size(); ++i)
    if (words.data()[i] < 0) throw py::value_error("a word id is negative");
}

template <class Score>
py::tuple score(const Offsets& offsets, const Words& words, Score&& run) {
  check_sentences(offsets, words);
  py::array_t<double> word_cost(words.size()), final_cost(offsets.size() - 1);
  const int64_t* offset_data = offsets.data();
  const int32_t* word_data = words.data();
  double *word_out = word_cost.mutable_data(), *final_out = final_cost.mutable_data();
  const int64_t sentences = offsets.size() - 1;
  {
    py::gil_scoped_release release;
    run(offset_data, sentences, word_data, word_out, final_out);
  }
  return py::make_tuple(word_cost, final_cost);
}

py::tuple score_automaton(const Automaton& automaton, const Offsets& offsets, const Words& words, bool best) {
  return score(offsets, words, [&](const int64_t* o, int64_t p, const int32_t* w, double* wc, double* fc) {
    best ? score_best(automaton, o, p, w, wc, fc) : score_batch(automaton, o, p, w, wc, fc);
  });
}

py::tuple score_const_arpa(const ConstArpa& model, const Offsets& offsets, const Words& words) {
  return score(offsets, words, [&](const int64_t* o, int64_t p, const int32_t* w, double* wc, double* fc) {
    score_batch(model, o, p, w, wc, fc);
  });
}

using Rows = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;

constexpr int32_t kEnd = -1;  // stands for the sentence end where a word is expected

// A state as a row of integers, at least one.
int64_t width(const Automaton&) { return 1; }
int64_t width(const ConstArpa& model) { return std::max<int64_t>(model.order() - 1, 1); }
void to_row(Automaton::State state, int64_t* row, int64_t) { *row = state; }
void to_row(const ConstArpa::State& state, int64_t* row, int64_t) {
  *row = -1;
  std::copy(state.begin(), state.end(), row);
}
void from_row(const Automaton& model, const int64_t* row, Automaton::State& state) {
  if (*row < 0 || *row >= model.num_states()) throw py::index_error("no such state");
  state = static_cast<int32_t>(*row);
}
void from_row(const ConstArpa& model, const int64_t* row, ConstArpa::State& state) {
  state.assign(row, row + model.order() - 1);
  for (const int64_t node : state)
    if (!model.has_node(node)) throw py::index_error("no such state");
}

// A place is a number: the state, and the bits of its cost.
int64_t width(const Cheapest& model) { return model.most_places(); }
void to_row(const Cheapest::State& state, int64_t* row, int64_t width) {
  std::fill_n(row, width, -1);
  for (const Cheapest::Place& place : state) {
    uint32_t bits;
    std::memcpy(&bits, &place.behind, sizeof bits);
    *row++ = static_cast<int64_t>(place.state) << 32 | bits;
  }
}
void from_row(const Cheapest& model, const int64_t* row, Cheapest::State& state) {
  state.clear();
  for (int64_t i = 0; i < model.most_places() && row[i] >= 0; ++i) {
    const uint32_t bits = static_cast<uint32_t>(row[i]);
    Cheapest::Place place{static_cast<int32_t>(row[i] >> 32), 0.0f};
    std::memcpy(&place.behind, &bits, sizeof bits);
    if (place.state >= model.num_states()) throw py::index_error("no such state");
    state.push_back(place);
  }
  if (state.empty()) throw py::index_error("no such state");
}

template <class Model>
Rows initial(const Model& model) {
  Rows row(width(model));
  to_row(model.initial(), row.mutable_data(), width(model));
  return row;
}

// Read one word in each of N states, rows (N, width). Returns the rows of the new states and the words' costs.
template <class Model>
py::tuple advance(const Model& model, const Rows& rows, const Words& words) {
  const int64_t k = width(model);
  if (rows.ndim() != 2 || words.ndim() != 1 || rows.shape(0) != words.size() || rows.shape(1) != k)
    throw py::value_error("a row of " + std::to_string(k) + " integers is needed for each word");
  Rows next({static_cast<py::ssize_t>(words.size()), static_cast<py::ssize_t>(k)});
  py::array_t<double> cost(words.size());
  const int64_t* from = rows.data();
  const int32_t* word = words.data();
  int64_t* to = next.mutable_data();
  double* out = cost.mutable_data();
  const int64_t count = words.size();
  {
    py::gil_scoped_release release;
    typename Model::State state;
    for (int64_t i = 0; i < count; ++i, from += k, to += k) {
      if (word[i] < kEnd) throw py::value_error("a word id is negative");
      from_row(model, from, state);
      out[i] = word[i] == kEnd ? model.finish_cost(state) : word[i] == 0 ? 0.0 : model.advance(state, word[i]);
      to_row(state, to, k);
    }
  }
  return py::make_tuple(next, cost);
}

py::dict skipped(const ArpaReader& reader) {
  const ArpaSkipped& s = reader.skipped();
  py::list first_words;
  for (const std::string& word : s.first_words) first_words.append(py::bytes(word));
  return py::dict(py::arg("words") = s.words, py::arg("first_words") = first_words,
                  py::arg("unknown_word") = s.unknown_word, py::arg("misplaced_boundary") = s.misplaced_boundary,
                  py::arg("no_parent") = s.no_parent);
}

void feed(ArpaReader& reader, const py::bytes& piece) {
  char* text = nullptr;
  py::ssize_t size = 0;
  if (PyBytes_AsStringAndSize(piece.ptr(), &text, &size) != 0) throw py::error_already_set();
  py::gil_scoped_release release;
  reader.feed(std::string_view(text, size));
}

}  // namespace
}  // namespace kaldi_mpq

PYBIND11_MODULE(_ngram, module) {
  using namespace kaldi_mpq;
  module.doc() = "N-gram language models of Kaldi: G.fst, G.carpa, ARPA.";

  // args: what, place, expected, found, hint; an empty string says nothing.
  static py::exception<Fault> fault_type(module, "Fault");
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const Fault& fault) {
      const py::tuple args =
          py::make_tuple(fault.fault, fault.place, fault.expected, py::bytes(fault.found), fault.hint);
      PyErr_SetObject(fault_type.ptr(), args.ptr());
    }
  });

  py::class_<Automaton>(module, "Automaton")
      .def(py::init(&read_openfst), py::arg("path"), py::arg("disambig"), py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("num_states", &Automaton::num_states)
      .def_property_readonly("num_arcs", &Automaton::num_arcs)
      .def_readonly("max_label", &Automaton::max_label)
      .def_readonly("ambiguous_states", &Automaton::ambiguous_states)
      .def_readonly("unk", &Automaton::unk)
      .def("initial", &initial<Automaton>)
      .def("advance", &advance<Automaton>, py::arg("rows"), py::arg("words"))
      .def("score", &score_automaton, py::arg("word_offsets"), py::arg("words"), py::arg("best"));

  py::class_<Cheapest>(module, "Cheapest")
      .def(py::init<const Automaton&>(), py::arg("automaton"), py::keep_alive<1, 2>())
      .def("initial", &initial<Cheapest>)
      .def("advance", &advance<Cheapest>, py::arg("rows"), py::arg("words"));

  py::class_<ConstArpa>(module, "ConstArpa")
      .def(py::init<const std::string&>(), py::arg("path"), py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("bos", &ConstArpa::bos)
      .def_property_readonly("eos", &ConstArpa::eos)
      .def_property_readonly("unk", &ConstArpa::unk)
      .def_property_readonly("order", &ConstArpa::order)
      .def_property_readonly("num_words", &ConstArpa::num_words)
      .def_property_readonly("num_nodes", &ConstArpa::num_nodes)
      .def("initial", &initial<ConstArpa>)
      .def("advance", &advance<ConstArpa>, py::arg("rows"), py::arg("words"))
      .def("score", &score_const_arpa, py::arg("word_offsets"), py::arg("words"));

  py::class_<ArpaReader>(module, "ArpaReader")
      .def(py::init([](std::unordered_map<std::string, int32_t> ids, int32_t bos, int32_t eos, int32_t unk,
                       float unk_cost) { return ArpaReader({std::move(ids), bos, eos, unk, unk_cost}); }),
           py::arg("ids"), py::arg("bos"), py::arg("eos"), py::arg("unk"), py::arg("unk_cost"))
      .def("feed", &feed, py::arg("piece"))
      .def("finish", &ArpaReader::finish, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("counts", &ArpaReader::counts)
      .def_property_readonly("skipped", &skipped);
}
