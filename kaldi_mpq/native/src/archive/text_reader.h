// SPDX-License-Identifier: Apache-2.0
// Kaldi's text form of a lattice: one line for an arc or a final weight, an empty line after the last one.
//
//   compact:      source dest word [g,a,tids]          state [g,a,tids]        tids: 3_4_4
//   not compact:  source dest tid word [g,a]           state [g,a]
//
// A missing weight is One: 0,0 and no transition-ids. The first state named is the start. Not here: keys.
#pragma once

#include "../lattices.h"
#include "byte_reader.h"

namespace kaldi_mpq {

// Append the lattice whose first line is the next one, through its empty line or to the end of the source. Throws Fault,
// also when the source seems to be cut off, and then leaves `out` as it was.
void read_text(ByteReader& in, Lattices* out);

}  // namespace kaldi_mpq
