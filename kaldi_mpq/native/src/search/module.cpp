// SPDX-License-Identifier: Apache-2.0
// Python module kaldi_mpq.native._search; kaldi_mpq/native/search.py says what its classes promise.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>

#include "../paths/arrays.h"
#include "composer.h"
#include "row_table.h"

namespace py = pybind11;

namespace kaldi_mpq {
namespace {

// Lattices that are being searched, each in a numbered place.
class Searches {
 public:
  Searches(double acoustic_scale, float beam, int64_t max_arcs, double growth, int32_t frontier)
      : options_{acoustic_scale, beam, max_arcs, growth, frontier} {}

  // Begin to search lattice `index` of `batch` from the model's state `start`, in a place that is free.
  void add(int32_t number, std::shared_ptr<BatchArrays> batch, int64_t index, int32_t start) {
    const BatchView view = batch->view();
    if (index < 0 || index >= view.size) throw py::index_error("no such lattice");
    if (number < 0) throw py::index_error("the number of a search is negative");
    if (number >= static_cast<int64_t>(places_.size())) places_.resize(number + 1);
    if (places_[number].composer) throw py::value_error("there is a search of this number");
    const LatticeView lattice = view[index];
    require_sorted(lattice);
    places_[number] = {std::move(batch), index, std::make_unique<Composer>(lattice, options_, start), 0};
  }

  // What some of the searches must know; the others wait.
  py::tuple ask(const std::vector<int32_t>& numbers) {
    std::vector<uint8_t> goes_on(places_.size(), 0);
    for (const int32_t number : numbers) {
      if (number < 0 || number >= static_cast<int32_t>(places_.size()) || !places_[number].composer)
        throw py::index_error("no search of this number");
      goes_on[number] = 1;
    }
    std::vector<int32_t> owners, states, words;
    std::vector<Question> questions;
    {
      py::gil_scoped_release release;
      for (size_t place = 0; place < places_.size(); ++place) {
        if (!goes_on[place]) continue;
        questions.clear();
        places_[place].composer->ask(questions);
        places_[place].asked = static_cast<int64_t>(questions.size());
        for (const Question& question : questions) {
          owners.push_back(static_cast<int32_t>(place));
          states.push_back(question.state);
          words.push_back(question.word);
        }
      }
    }
    return py::make_tuple(to_numpy(std::move(owners)), to_numpy(std::move(states)), to_numpy(std::move(words)));
  }

  void answer(const Array<int32_t>& next, const Array<float>& cost) {
    int64_t asked = 0;
    for (const Place& place : places_) asked += place.composer ? place.asked : 0;
    require_length(next, asked, "next");
    require_length(cost, asked, "cost");
    const int32_t* next_data = next.data();
    const float* cost_data = cost.data();
    for (int64_t i = 0; i < asked; ++i)
      if (std::isnan(cost_data[i]) || cost_data[i] == -std::numeric_limits<float>::infinity())
        throw py::value_error("NaN or -inf among the costs");
    py::gil_scoped_release release;
    std::vector<Answer> answers;
    for (Place& place : places_) {
      if (!place.composer) continue;
      answers.clear();
      for (int64_t i = 0; i < place.asked; ++i) answers.push_back({*next_data++, *cost_data++});
      place.composer->answer(answers.data());
      place.asked = 0;
    }
  }

  std::vector<int32_t> done() const {
    std::vector<int32_t> places;
    for (size_t place = 0; place < places_.size(); ++place)
      if (places_[place].composer && places_[place].composer->done()) places.push_back(static_cast<int32_t>(place));
    return places;
  }

  // The outputs of searches that are over; their places are free again.
  py::dict take(const std::vector<int32_t>& places) {
    Lattices out;
    for (const int32_t number : places) {
      if (number < 0 || number >= static_cast<int32_t>(places_.size()) || !places_[number].composer)
        throw py::index_error("no search at this place");
      Place& place = places_[number];
      const BatchView batch = place.batch->view();
      {
        py::gil_scoped_release release;
        place.composer->write(batch, out);
      }
      const int64_t states = static_cast<int64_t>(out.final_graph.size());
      out.start.push_back(states > out.state_offsets.back() ? 0 : -1);
      out.compact.push_back(batch.compact[place.index]);
      out.state_offsets.push_back(states);
      place = {};
    }
    return to_dict(std::move(out));
  }

  int64_t num_arcs() const {
    int64_t sum = 0;
    for (const Place& place : places_) sum += place.composer ? place.composer->num_arcs() : 0;
    return sum;
  }

 private:
  struct Place {
    std::shared_ptr<BatchArrays> batch;
    int64_t index = 0;
    std::unique_ptr<Composer> composer;
    int64_t asked = 0;
  };

  static void require_sorted(const LatticeView& lattice) {
    bool good = lattice.num_states > 0 && lattice.start == 0;
    for (int32_t s = 0; s < lattice.num_states && good; ++s) {
      bool leaves = lattice.is_final(s);
      for (int64_t arc = lattice.arc_begin[s]; arc < lattice.arc_begin[s + 1] && good; ++arc) {
        good = lattice.arc_dest[arc] > s && lattice.arc_dest[arc] < lattice.num_states;
        leaves = leaves || lattice.has_arc(arc);
      }
      good = good && leaves;
    }
    if (!good) throw py::value_error("the lattice is not trimmed and topologically sorted from state 0");
  }

  SearchOptions options_;
  std::vector<Place> places_;
};

py::tuple intern(RowTable& table, const Array<int32_t>& owners, const Array<int64_t>& rows) {
  if (owners.ndim() != 1 || rows.ndim() != 2 || rows.shape(0) != owners.size() || rows.shape(1) != table.width())
    throw py::value_error("one owner and " + std::to_string(table.width()) + " integers are needed for each row");
  std::vector<int32_t> numbers(owners.size());
  std::vector<uint8_t> is_new(owners.size());
  const int32_t* owner = owners.data();
  const int64_t* row = rows.data();
  {
    py::gil_scoped_release release;
    for (size_t i = 0; i < numbers.size(); ++i, row += table.width()) {
      bool fresh = false;
      numbers[i] = table.intern(owner[i], row, fresh);
      is_new[i] = fresh;
    }
  }
  return py::make_tuple(to_numpy(std::move(numbers)), to_numpy(std::move(is_new)).attr("view")("bool"));
}

py::array_t<int32_t> find(const RowTable& table, int32_t owner, const Array<int64_t>& rows) {
  if (rows.ndim() != 2 || rows.shape(1) != table.width()) throw py::value_error("rows of another width");
  py::array_t<int32_t> numbers(rows.shape(0));
  int32_t* to = numbers.mutable_data();
  const int64_t* row = rows.data();
  for (int64_t i = 0; i < rows.shape(0); ++i, row += table.width()) to[i] = table.find(owner, row);
  return numbers;
}

py::array_t<int64_t> rows_of(const RowTable& table, const Array<int32_t>& numbers) {
  py::array_t<int64_t> out({static_cast<py::ssize_t>(numbers.size()), static_cast<py::ssize_t>(table.width())});
  int64_t* to = out.mutable_data();
  for (int64_t i = 0; i < numbers.size(); ++i, to += table.width()) {
    const int32_t number = numbers.data()[i];
    if (number < 0 || number >= table.capacity()) throw py::index_error("no such row");
    std::copy_n(table.row(number), table.width(), to);
  }
  return out;
}

}  // namespace
}  // namespace kaldi_mpq

PYBIND11_MODULE(_search, m) {
  using namespace kaldi_mpq;
  m.doc() = "Pruned composition of many lattices at a time; use kaldi_mpq.native.search.";

  py::class_<BatchArrays, std::shared_ptr<BatchArrays>>(m, "Batch").def(
      py::init([](const py::object& lattices) { return std::make_shared<BatchArrays>(lattices); }), py::arg("lattices"));

  py::class_<Searches>(m, "Searches")
      .def(py::init<double, float, int64_t, double, int32_t>(), py::arg("acoustic_scale"), py::arg("beam"),
           py::arg("max_arcs"), py::arg("growth"), py::arg("frontier"))
      .def("add", &Searches::add, py::arg("number"), py::arg("batch"), py::arg("index"),
           py::arg("start"))
      .def("ask", &Searches::ask, py::arg("numbers"))
      .def("answer", &Searches::answer, py::arg("next"), py::arg("cost"))
      .def("done", &Searches::done)
      .def("take", &Searches::take, py::arg("places"))
      .def_property_readonly("num_arcs", &Searches::num_arcs);

  py::class_<RowTable>(m, "RowTable")
      .def(py::init<int64_t>(), py::arg("width"))
      .def("intern", &intern, py::arg("owners"), py::arg("rows"))
      .def("find", &find, py::arg("owner"), py::arg("rows"))
      .def("rows", &rows_of, py::arg("numbers"))
      .def("release", [](RowTable& table, int32_t owner) { return to_numpy(table.release(owner)); }, py::arg("owner"))
      .def_property_readonly("capacity", &RowTable::capacity)
      .def("__len__", &RowTable::size);
}
