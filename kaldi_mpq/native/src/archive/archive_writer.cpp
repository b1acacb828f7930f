// SPDX-License-Identifier: Apache-2.0
#include "archive_writer.h"

#include "arrays.h"
#include "byte_reader.h"

namespace kaldi_mpq {
namespace {

void check_key(const std::string& key) {
  bool good = !key.empty();
  for (const char c : key) good = good && !is_space(c);
  if (!good) throw Fault("a key that Kaldi cannot read").expect("no white space, not empty").find("'" + printable(key) + "'");
}

}  // namespace

Piece format_piece(const Lattices& lattices, const int64_t* indices, int64_t count, Form form, size_t target_bytes) {
  Piece piece;
  piece.bytes.reserve(target_bytes);
  for (int64_t i = 0; i < count && piece.bytes.size() < target_bytes; ++i) {
    const std::string& key = lattices.keys[indices[i]];
    check_key(key);
    check_lattice(lattices, indices[i]);
    piece.bytes += key;
    piece.bytes += ' ';
    piece.objects.push_back(static_cast<int64_t>(piece.bytes.size()));
    try {
      const auto append = form.text ? &append_text : &append_binary;
      append(lattices, indices[i], form.wide, &piece.bytes);
    } catch (Fault& fault) {
      fault.where = "lattice " + printable(key);
      throw;
    }
  }
  return piece;
}

}  // namespace kaldi_mpq
