// SPDX-License-Identifier: Apache-2.0
// Kaldi's binary lattices: OpenFst vector FSTs of four arc types. Not here: keys, and which form a record has.
#pragma once

#include "../lattices.h"
#include "byte_reader.h"

namespace kaldi_mpq {

// Append the lattice that begins at the next byte, all but its key. Throws Fault, and may leave `out` with half of it.
void read_binary(ByteReader& in, Lattices* out);

}  // namespace kaldi_mpq
