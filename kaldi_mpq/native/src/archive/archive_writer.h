// SPDX-License-Identifier: Apache-2.0
// Lattices as the bytes of a Kaldi archive. Where they go is not its business.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "../lattices.h"
#include "fault.h"

namespace kaldi_mpq {

struct Form {
  bool text;
  bool wide;  // float64 costs; in text: every digit of them
};

// Append what follows the key, in Kaldi's binary form or in its text form with the empty line at its end. The lattice is
// sound. Throws Fault if a cost is too large for a float. Arcs of cost (inf, inf) have no place in text and are left out.
void append_binary(const Lattices& lattices, int64_t index, bool wide, std::string* out);
void append_text(const Lattices& lattices, int64_t index, bool wide, std::string* out);

// A cost as it is stored.
template <typename Real>
Real rounded(double cost) {
  const auto value = static_cast<Real>(cost);
  if (std::isinf(value) && std::isfinite(cost))
    throw Fault("a cost is too large for a float").expect("at most 3.4e38").find(std::to_string(cost));
  return value;
}

struct Piece {
  std::string bytes;
  std::vector<int64_t> objects;  // where each lattice begins in `bytes`, after its key
};

// The records of lattices indices[0], indices[1], ... until there are `target_bytes` of them, or `count` lattices.
Piece format_piece(const Lattices& lattices, const int64_t* indices, int64_t count, Form form, size_t target_bytes);

}  // namespace kaldi_mpq
