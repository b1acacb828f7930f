// SPDX-License-Identifier: Apache-2.0
// Python module kaldi_mpq.native._archive; kaldi_mpq/native/archive.py says what it is for.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>

#include "archive_reader.h"
#include "archive_writer.h"
#include "arrays.h"
#include "bindings.h"

namespace py = pybind11;

namespace kaldi_mpq {
namespace {

constexpr int64_t kReadBytes = 1 << 18;

// Raise Python's LatticeError for a Fault.
void translate(std::exception_ptr error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const Fault& fault) {
    const auto text = [](const std::string& field) -> py::object {
      if (field.empty()) return py::none();
      return py::bytes(field).attr("decode")("utf-8", "backslashreplace");
    };
    const py::object type = py::module_::import("kaldi_mpq.errors").attr("LatticeError");
    const py::object raised =
        type(text(fault.message), py::arg("where") = text(fault.where), py::arg("expected") = text(fault.expected),
             py::arg("found") = text(fault.found), py::arg("hint") = text(fault.hint));
    PyErr_SetObject(type.ptr(), raised.ptr());
  }
}

// Bytes from a Python function `read(size)`, which returns b"" at the end. It is called with Python's lock held, the
// parser around it runs without.
ByteReader::Refill refill_from(py::object read) {
  return [read = std::move(read)](std::string* buffer) {
    py::gil_scoped_acquire acquire;
    const py::bytes piece = read(kReadBytes);
    char* data = nullptr;
    py::ssize_t size = 0;
    if (PyBytes_AsStringAndSize(piece.ptr(), &data, &size) != 0) throw py::error_already_set();
    buffer->append(data, static_cast<size_t>(size));
    return size > 0;
  };
}

// Lattices that are being read, until there are enough for one batch.
struct Batch {
  int64_t max_lattices, max_arcs, max_bytes;
  Lattices lattices{};

  bool full() const {
    return lattices.size() >= max_lattices || lattices.num_arcs() >= max_arcs || size_in_bytes(lattices) >= max_bytes;
  }
  std::unique_ptr<Lattices> take() { return std::make_unique<Lattices>(std::exchange(lattices, Lattices())); }
};

// Read records until the batch is full or the archive ends; whether it may go on.
bool fill(ArchiveReader& reader, Batch& batch) {
  py::gil_scoped_release release;
  while (!batch.full())
    if (!reader.read_record(&batch.lattices)) return false;
  return true;
}

void read_object(ArchiveReader& reader, Batch& batch, const std::string& key) {
  py::gil_scoped_release release;
  reader.read_object(key, &batch.lattices);
}

py::tuple format(const Lattices& lattices, const py::object& indices, int64_t first, bool text, bool wide,
                 int64_t target_bytes) {
  const auto chosen = to_vector<int64_t>(indices, "indices");
  for (const int64_t index : chosen)
    if (index < 0 || index >= lattices.size()) throw py::index_error("no lattice " + std::to_string(index));
  if (first < 0 || first > static_cast<int64_t>(chosen.size())) throw py::index_error("first is out of range");
  Piece piece;
  {
    py::gil_scoped_release release;
    piece = format_piece(lattices, chosen.data() + first, static_cast<int64_t>(chosen.size()) - first, {text, wide},
                         static_cast<size_t>(target_bytes));
  }
  return py::make_tuple(py::bytes(piece.bytes), piece.objects);
}

}  // namespace
}  // namespace kaldi_mpq

PYBIND11_MODULE(_archive, m) {
  using namespace kaldi_mpq;
  m.doc() = "Parsing and formatting of Kaldi's lattice archives; use kaldi_mpq.native.archive.";
  py::register_local_exception_translator(&translate);
  bind_lattices(m);
  py::class_<Batch>(m, "Batch")
      .def(py::init([](int64_t max_lattices, int64_t max_arcs, int64_t max_bytes) {
             return Batch{max_lattices, max_arcs, max_bytes};
           }),
           py::arg("max_lattices"), py::arg("max_arcs"), py::arg("max_bytes"))
      .def("__len__", [](const Batch& batch) { return batch.lattices.size(); })
      .def_property_readonly("full", &Batch::full)
      .def("take", &Batch::take);
  py::class_<ArchiveReader>(m, "ArchiveReader")
      .def(py::init([](py::object read, std::string name, std::string unit) {
             return std::make_unique<ArchiveReader>(refill_from(std::move(read)), std::move(name), std::move(unit));
           }),
           py::arg("read"), py::arg("name"), py::arg("unit"))
      .def("fill", &fill, py::arg("batch"))
      .def("read_object",
           [](ArchiveReader& reader, Batch& batch, const py::str& key) { read_object(reader, batch, from_str(key)); },
           py::arg("batch"), py::arg("key"))
      .def("at_end", &ArchiveReader::at_end)
      .def("seek", &ArchiveReader::seek, py::arg("offset"));
  m.def("format", &format, py::arg("lattices"), py::arg("indices"), py::arg("first"), py::arg("text"), py::arg("wide"),
        py::arg("target_bytes"));
}
