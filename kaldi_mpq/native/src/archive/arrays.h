// SPDX-License-Identifier: Apache-2.0
// Lattices as arrays: are they sound, how big are they, parts and sums of them.
#pragma once

#include <cstdint>

#include "../lattices.h"

namespace kaldi_mpq {

// Throw Fault unless the arrays have lengths that fit each other.
void check_shapes(const Lattices& lattices);

// Throw Fault unless everything about one lattice that says where to go leads to where something is. The arrays have the
// right lengths, but Python may have written anything into them.
void check_lattice(const Lattices& lattices, int64_t index);

int64_t size_in_bytes(const Lattices& lattices);

// Keep the first `size` lattices, and nothing of one that was read by half.
void truncate(Lattices* lattices, int64_t size);

// Append one lattice of `from`, which is sound.
void append_lattice(const Lattices& from, int64_t index, Lattices* to);

}  // namespace kaldi_mpq
