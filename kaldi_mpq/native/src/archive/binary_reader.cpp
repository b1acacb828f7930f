// SPDX-License-Identifier: Apache-2.0
#include "binary_reader.h"

#include <limits>
#include <string>

#include "fault.h"
#include "fst_format.h"

namespace kaldi_mpq {
namespace {

constexpr int32_t kSymbolTableMagic = 2125658996;
constexpr int32_t kHasInputSymbols = 1, kHasOutputSymbols = 2, kIsAligned = 4;
constexpr int32_t kLongestName = 256;
constexpr char kHeader[] = "a lattice's header";

struct Header {
  bool compact = false;
  bool wide = false;  // float64 costs
  int64_t start = -1;
  int64_t num_states = 0;
};

std::string take_name(ByteReader& in, const char* what) {
  const int64_t at = in.offset();
  const auto size = in.take<int32_t>(kHeader);
  if (size < 0 || size > kLongestName)
    throw Fault(std::string("bad length of the ") + what, at).expect("0 to 256").find(size);
  return std::string(in.take(static_cast<size_t>(size), kHeader), static_cast<size_t>(size));
}

void take_arc_type(ByteReader& in, Header* header) {
  const int64_t at = in.offset();
  const std::string type = take_name(in, "arc type");
  header->compact = type == "compactlattice44" || type == "compactlattice84";
  header->wide = type == "lattice8" || type == "compactlattice84";
  if (header->compact || type == "lattice4" || type == "lattice8") return;
  Fault fault("wrong arc type", at);
  fault.expect("lattice4, lattice8, compactlattice44 or compactlattice84").find(type);
  if (type == "standard") fault.advise("this is a plain FST (such as G.fst), not a lattice");
  throw fault;
}

void skip_symbol_table(ByteReader& in) {
  constexpr char kTable[] = "a symbol table";
  const auto skip_text = [&] {
    const int64_t at = in.offset();
    const auto size = in.take<int32_t>(kTable);
    if (size < 0) throw Fault("negative length in a symbol table", at).expect(">= 0").find(size);
    in.skip(static_cast<uint64_t>(size), kTable);
  };
  const int64_t at = in.offset();
  const auto magic = in.take<int32_t>(kTable);
  if (magic != kSymbolTableMagic) throw Fault("bad symbol table", at).expect("magic 2125658996").find(magic);
  skip_text();                        // name
  in.skip(sizeof(int64_t), kTable);  // next free number
  const auto size = in.take<int64_t>(kTable);
  for (int64_t i = 0; i < size; ++i) {
    skip_text();
    in.skip(sizeof(int64_t), kTable);  // number
  }
}

void take_counts(ByteReader& in, Header* header) {
  const int64_t at = in.offset();
  header->start = in.take<int64_t>(kHeader);
  header->num_states = in.take<int64_t>(kHeader);
  in.skip(sizeof(int64_t), kHeader);  // number of arcs: 0 in vector FSTs, nobody reads it
  if (header->num_states == -1)
    throw Fault("number of states is not recorded (-1)", at)
        .advise("the program that wrote it into a pipe could not go back to fill it in, and may have died there");
  if (header->num_states < 0 || header->num_states > std::numeric_limits<int32_t>::max())
    throw Fault("bad number of states", at).expect("0 to 2147483647").find(header->num_states);
  if (header->start < -1 || header->start >= header->num_states)
    throw Fault("start state out of range", at)
        .expect("-1 to " + std::to_string(header->num_states - 1))
        .find(header->start);
}

Header take_header(ByteReader& in) {
  Header header;
  int64_t at = in.offset();
  const auto magic = in.take<int32_t>(kHeader);
  if (magic != kFstMagic) throw Fault("not an OpenFst header", at).expect("magic 2125659606").find(magic);
  at = in.offset();
  const std::string fst_type = take_name(in, "FST type");
  if (fst_type != kFstType) throw Fault("wrong FST type", at).expect(kFstType).find(fst_type);
  take_arc_type(in, &header);
  at = in.offset();
  const auto version = in.take<int32_t>(kHeader);
  if (version != kFstVersion) throw Fault("wrong FST version", at).expect("2").find(version);
  at = in.offset();
  const auto flags = in.take<int32_t>(kHeader);
  if (flags & ~(kHasInputSymbols | kHasOutputSymbols | kIsAligned))
    throw Fault("unknown FST flags", at).expect("0 to 7").find(flags);
  in.skip(sizeof(uint64_t), kHeader);  // properties: claims of the writer, which nothing here depends on
  take_counts(in, &header);
  if (flags & kHasInputSymbols) skip_symbol_table(in);
  if (flags & kHasOutputSymbols) skip_symbol_table(in);
  return header;
}

template <typename T>
T load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// The states of one lattice, `Real` being the type of its costs.
template <typename Real, bool compact>
class StateReader {
 public:
  StateReader(ByteReader& in, const Header& header, Lattices* out) : in_(in), header_(header), out_(*out) {}

  void read() {
    for (int64_t state = 0; state < header_.num_states; ++state) {
      read_final();
      const int64_t at = in_.offset();
      const auto num_arcs = in_.take<int64_t>("a state");
      if (num_arcs < 0) throw Fault("negative number of arcs", at).expect(">= 0").find(num_arcs);
      for (int64_t arc = 0; arc < num_arcs; ++arc) read_arc();
      out_.arc_offsets.push_back(static_cast<int64_t>(out_.arc_word.size()));
    }
  }

 private:
  void read_final() {
    const int64_t at = in_.offset();
    const char* bytes = in_.take(kWeight, "a final weight");
    out_.final_graph.push_back(load<Real>(bytes));
    out_.final_acoustic.push_back(load<Real>(bytes + sizeof(Real)));
    if constexpr (compact) take_tids(load<int32_t>(bytes + 2 * sizeof(Real)), &out_.final_tids, at);
    out_.final_tid_offsets.push_back(static_cast<int64_t>(out_.final_tids.size()));
  }

  void read_arc() {
    const int64_t at = in_.offset();
    const char* bytes = in_.take(kLabels + kWeight, "an arc");
    const auto input = load<int32_t>(bytes);
    const auto output = load<int32_t>(bytes + sizeof(int32_t));
    out_.arc_word.push_back(output);
    out_.arc_graph.push_back(load<Real>(bytes + kLabels));
    out_.arc_acoustic.push_back(load<Real>(bytes + kLabels + sizeof(Real)));
    if constexpr (compact) {
      if (input != output)
        throw Fault("an arc of a CompactLattice has two labels", at)
            .expect("input label = output label (a word)")
            .find(std::to_string(input) + " and " + std::to_string(output));
      take_tids(load<int32_t>(bytes + kLabels + 2 * sizeof(Real)), &out_.arc_tids, at);
    } else if (input != 0) {
      out_.arc_tids.push_back(input);
    }
    out_.arc_tid_offsets.push_back(static_cast<int64_t>(out_.arc_tids.size()));
    const auto dest = in_.take<int32_t>("an arc");
    if (dest < 0 || dest >= header_.num_states)
      throw Fault("an arc leads to a state that is not there", at)
          .expect("0 to " + std::to_string(header_.num_states - 1))
          .find(dest);
    out_.arc_dest.push_back(dest);
  }

  void take_tids(int32_t count, std::vector<int32_t>* out, int64_t at) {
    if (count < 0) throw Fault("negative number of transition-ids", at).expect(">= 0").find(count);
    in_.take_integers(count, out, "a list of transition-ids");
  }

  static constexpr size_t kLabels = 2 * sizeof(int32_t);
  static constexpr size_t kWeight = 2 * sizeof(Real) + (compact ? sizeof(int32_t) : 0);

  ByteReader& in_;
  const Header& header_;
  Lattices& out_;
};

}  // namespace

void read_binary(ByteReader& in, Lattices* out) {
  const Header header = take_header(in);
  if (header.compact) {
    header.wide ? StateReader<double, true>(in, header, out).read() : StateReader<float, true>(in, header, out).read();
  } else {
    header.wide ? StateReader<double, false>(in, header, out).read() : StateReader<float, false>(in, header, out).read();
  }
  out->compact.push_back(header.compact);
  out->start.push_back(static_cast<int32_t>(header.start));
  out->state_offsets.push_back(static_cast<int64_t>(out->final_graph.size()));
}

}  // namespace kaldi_mpq
