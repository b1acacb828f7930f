// SPDX-License-Identifier: Apache-2.0
#include "openfst.h"

#include <cmath>
#include <limits>

#include "binary_file.h"

namespace kaldi_mpq {
namespace {

constexpr int32_t kFstMagic = 2125659606;
constexpr int32_t kSymbolsMagic = 2125658996;
constexpr int64_t kArcBytes = 16;       // ilabel, olabel, cost, destination
constexpr int64_t kMinStateBytes = 12;  // final cost, number of arcs
constexpr int32_t kHasInputSymbols = 1, kHasOutputSymbols = 2;

std::string read_string(Cursor& in, const char* what) {
  const int64_t here = in.offset();
  const int32_t size = in.value<int32_t>(what);
  if (size < 0 || size > in.left())
    throw Fault(std::string("bad length of ") + what, at_byte(here), "0 to " + std::to_string(in.left()),
                std::to_string(size));
  return std::string(in.take(size, what), size);
}

void skip_symbols(Cursor& in) {
  const int64_t here = in.offset();
  const int32_t magic = in.value<int32_t>("the symbol table's magic number");
  if (magic != kSymbolsMagic)
    throw Fault("bad symbol table", at_byte(here), std::to_string(kSymbolsMagic), std::to_string(magic));
  read_string(in, "the symbol table's name");
  in.value<int64_t>("the symbol table's next key");
  const int64_t size = in.value<int64_t>("the symbol table's size");
  for (int64_t i = 0; i < size; ++i) {
    read_string(in, "a symbol");
    in.value<int64_t>("a symbol's key");
  }
}

struct Header {
  int64_t start, states;  // states -1: until the end of the file
  int64_t offset;         // of these two numbers
};

Header read_header(Cursor& in) {
  const int32_t magic = in.value<int32_t>("the magic number");
  if (magic != kFstMagic) throw Fault("not an OpenFst file", at_byte(0), std::to_string(kFstMagic), std::to_string(magic));
  int64_t here = in.offset();
  const std::string type = read_string(in, "the FST type");
  if (type != "vector")
    throw Fault("wrong FST type", at_byte(here), "'vector'", "'" + Cursor::printable(type.data(), type.size()) + "'",
                "convert it with fstconvert --fst_type=vector");
  here = in.offset();
  const std::string arc = read_string(in, "the arc type");
  if (arc != "standard")
    throw Fault("wrong arc type", at_byte(here), "'standard'", "'" + Cursor::printable(arc.data(), arc.size()) + "'");
  here = in.offset();
  const int32_t version = in.value<int32_t>("the version");
  if (version < 2) throw Fault("wrong version of the format", at_byte(here), "2", std::to_string(version));
  const int32_t flags = in.value<int32_t>("the flags");
  in.value<uint64_t>("the properties");
  Header header;
  header.offset = in.offset();
  header.start = in.value<int64_t>("the start state");
  header.states = in.value<int64_t>("the number of states");
  in.value<int64_t>("the number of arcs");  // Kaldi writes 0
  if (flags & kHasInputSymbols) skip_symbols(in);
  if (flags & kHasOutputSymbols) skip_symbols(in);
  return header;
}

void check_cost(float cost, const char* what, int64_t offset) {
  if (std::isnan(cost) || cost == -kInfinity)
    throw Fault(std::string("bad ") + what, at_byte(offset), "a cost", std::to_string(cost));
}

void read_arcs(Cursor& in, int64_t arcs, int32_t disambig, Automaton& automaton) {
  int64_t here = in.offset();
  const char* at = in.take(arcs * kArcBytes, "arcs");
  for (int64_t i = 0; i < arcs; ++i, at += kArcBytes, here += kArcBytes) {
    const int32_t label = load<int32_t>(at + 4);
    const Automaton::Step step{load<float>(at + 8), load<int32_t>(at + 12)};
    if (label < 0) throw Fault("bad label", at_byte(here + 4), "0 or more", std::to_string(label));
    check_cost(step.cost, "arc cost", here + 8);
    if (step.dest < 0) throw Fault("arc to no state", at_byte(here + 12), "0 or more", std::to_string(step.dest));
    automaton.labels.push_back(label == disambig ? 0 : label);
    automaton.steps.push_back(step);
  }
}

void check_states(const Automaton& automaton, const Header& header) {
  const int64_t states = automaton.num_states();
  const std::string range = "0 to " + std::to_string(states - 1);
  if (header.start < 0 || states == 0) throw Fault("the automaton is empty", "", "a language model", "no states");
  if (header.start >= states) throw Fault("bad start state", at_byte(header.offset), range, std::to_string(header.start));
  for (const Automaton::Step& step : automaton.steps)
    if (step.dest >= states) throw Fault("arc to no state", "", "destinations " + range, std::to_string(step.dest));
}

}  // namespace

Automaton read_openfst(const std::string& path, int32_t disambig) {
  const BinaryFile file(path);
  Cursor in(file);
  const Header header = read_header(in);
  if (header.states < -1 || header.states > in.left() / kMinStateBytes ||
      header.states > std::numeric_limits<int32_t>::max())
    throw Fault("bad number of states", at_byte(header.offset + 8),
                "at most " + std::to_string(in.left() / kMinStateBytes) + " in what is left of the file",
                std::to_string(header.states), "the file may be cut off");
  Automaton automaton;
  const int64_t arcs_at_most = (in.left() - std::max<int64_t>(header.states, 0) * kMinStateBytes) / kArcBytes;
  automaton.labels.reserve(arcs_at_most);
  automaton.steps.reserve(arcs_at_most);
  while (header.states < 0 ? in.left() > 0 : automaton.num_states() < header.states) {
    int64_t here = in.offset();
    automaton.final_cost.push_back(in.value<float>("a final cost"));
    check_cost(automaton.final_cost.back(), "final cost", here);
    here = in.offset();
    const int64_t arcs = in.value<int64_t>("a number of arcs");
    if (arcs < 0 || arcs > in.left() / kArcBytes)
      throw Fault("bad number of arcs of state " + std::to_string(automaton.num_states() - 1), at_byte(here),
                  "at most " + std::to_string(in.left() / kArcBytes) + " in what is left of the file",
                  std::to_string(arcs), "the file may be cut off");
    read_arcs(in, arcs, disambig, automaton);
    automaton.offsets.push_back(automaton.num_arcs());
  }
  if (in.left() > 0)
    throw Fault("more after the last state", at_byte(in.offset()), "the end of the file",
                std::to_string(in.left()) + " bytes");
  check_states(automaton, header);
  automaton.start = static_cast<int32_t>(header.start);
  automaton.finish();
  return automaton;
}

}  // namespace kaldi_mpq
