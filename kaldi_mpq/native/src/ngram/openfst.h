// SPDX-License-Identifier: Apache-2.0
// Reading an OpenFst file (vector FST, standard arcs) as an automaton over its output labels: Kaldi's G.fst.
#pragma once

#include <cstdint>
#include <string>

#include "automaton.h"

namespace kaldi_mpq {

// `disambig`: a label that is read as epsilon, as 0 is (the id of #0); -1: none. Throws Fault.
Automaton read_openfst(const std::string& path, int32_t disambig);

}  // namespace kaldi_mpq
