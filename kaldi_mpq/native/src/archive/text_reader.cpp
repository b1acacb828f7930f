// SPDX-License-Identifier: Apache-2.0
#include "text_reader.h"

#include <algorithm>
#include <limits>
#include <string>

#include "fault.h"
#include "number.h"

namespace kaldi_mpq {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kMostFields = 5;
// Kaldi numbers states without gaps. A few are harmless; a damaged number must not become gigabytes of states.
constexpr int64_t kMostUnnamedStates = 100000;

struct Weight {
  double graph = 0.0, acoustic = 0.0;
  int64_t first_tid = 0, end_tid = 0;  // in Record::tids_
};

struct TextArc {
  int32_t source, dest, word;
  Weight weight;
};

struct Fields {
  std::string_view text[kMostFields];
  int count = 0;
};

Fields split(std::string_view line) {
  const auto is_separator = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; };
  Fields fields;
  for (size_t at = 0; at < line.size();) {
    if (is_separator(line[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < line.size() && !is_separator(line[end])) ++end;
    if (fields.count == kMostFields) throw Fault("too many fields").expect("at most 5");
    fields.text[fields.count++] = line.substr(at, end - at);
    at = end;
  }
  return fields;
}

int32_t integer(std::string_view text, const char* what) {
  int32_t value = 0;
  if (!parse_integer(text, &value)) throw Fault(std::string("bad ") + what).expect("an integer").find(std::string(text));
  return value;
}

int32_t state_number(std::string_view text) {
  const int32_t value = integer(text, "state number");
  if (value < 0) throw Fault("negative state number").expect(">= 0").find(value);
  return value;
}

double cost(std::string_view text) {
  double value = 0.0;
  if (!parse_cost(text, &value)) throw Fault("bad cost").expect("a number").find(std::string(text));
  return value;
}

// One lattice in the order of its lines.
class Record {
 public:
  bool empty() const { return num_lines_ == 0; }

  void add_line(const Fields& fields) {
    const int32_t source = state_number(fields.text[0]);
    if (num_lines_++ == 0) start_ = source;
    highest_ = std::max(highest_, source);
    if (fields.count <= 2) {
      add_final(source, fields);
    } else {
      add_arc(source, fields);
    }
  }

  // A whole record of Kaldi's names every state at the beginning of a line.
  bool has_unnamed_state() const {
    std::vector<uint8_t> named(static_cast<size_t>(highest_) + 1, 0);
    for (const TextArc& arc : arcs_) named[arc.source] = 1;
    for (const auto& [state, weight] : finals_) named[state] = 1;
    return std::any_of(arcs_.begin(), arcs_.end(), [&](const TextArc& arc) { return !named[arc.dest]; });
  }

  void check_numbering() const {
    if (highest_ < kMostUnnamedStates + 2 * num_lines_) return;
    throw Fault("a state number is too high").expect("states numbered without gaps").find(highest_);
  }

  void append_to(Lattices* out) const {
    append_states(out);
    append_arcs(out);
    out->compact.push_back(form_ != kPlain);
    out->start.push_back(start_);
    out->state_offsets.push_back(static_cast<int64_t>(out->final_graph.size()));
  }

 private:
  enum Form { kUnknown, kCompact, kPlain };

  void require(Form form) {
    if (form_ == kUnknown) form_ = form;
    if (form_ == form) return;
    throw Fault("a line of the other lattice type")
        .expect(form_ == kCompact ? "a line of a CompactLattice, as before" : "a line of a Lattice, as before");
  }

  void add_final(int32_t state, const Fields& fields) {
    finals_.emplace_back(state, fields.count == 2 ? weight(fields.text[1]) : one());
  }

  void add_arc(int32_t source, const Fields& fields) {
    TextArc arc{source, state_number(fields.text[1]), 0, {}};
    const bool four_integers = fields.count == 4 && parse_integer(fields.text[3], &arc.word);
    if (fields.count == 5 || four_integers) {
      require(kPlain);
      arc.word = integer(fields.text[3], "word");
      const int32_t tid = integer(fields.text[2], "transition-id");
      if (tid != 0) tids_.push_back(tid);
      arc.weight = fields.count == 5 ? weight(fields.text[4]) : one();
      arc.weight.first_tid -= tid != 0;
    } else {
      require(kCompact);
      arc.word = integer(fields.text[2], "word");
      arc.weight = fields.count == 4 ? weight(fields.text[3]) : one();
    }
    highest_ = std::max(highest_, arc.dest);
    arcs_.push_back(arc);
  }

  Weight one() const {
    const auto here = static_cast<int64_t>(tids_.size());
    return {0.0, 0.0, here, here};
  }

  // g,a of a Lattice or g,a,tids of a CompactLattice.
  Weight weight(std::string_view text) {
    const size_t comma = text.find(',');
    if (comma == std::string_view::npos)
      throw Fault("bad weight").expect("graph,acoustic or graph,acoustic,transition-ids").find(std::string(text));
    const size_t second = text.find(',', comma + 1);
    require(second == std::string_view::npos ? kPlain : kCompact);
    Weight weight = one();
    weight.graph = cost(text.substr(0, comma));
    weight.acoustic = cost(text.substr(comma + 1, second == std::string_view::npos ? second : second - comma - 1));
    if (second != std::string_view::npos && second + 1 < text.size()) add_tids(text.substr(second + 1));
    weight.end_tid = static_cast<int64_t>(tids_.size());
    return weight;
  }

  void add_tids(std::string_view text) {
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find('_', begin), text.size());
      tids_.push_back(integer(text.substr(begin, end - begin), "transition-id"));
      begin = end + 1;
    }
  }

  void append_tids(const Weight& weight, std::vector<int32_t>* tids, std::vector<int64_t>* offsets) const {
    tids->insert(tids->end(), tids_.begin() + weight.first_tid, tids_.begin() + weight.end_tid);
    offsets->push_back(static_cast<int64_t>(tids->size()));
  }

  void append_states(Lattices* out) const {
    const Weight not_final{kInfinity, kInfinity, 0, 0};
    std::vector<const Weight*> final_of(static_cast<size_t>(highest_ + 1), &not_final);
    for (const auto& [state, weight] : finals_) final_of[state] = &weight;  // the last one counts, as in Kaldi
    for (const Weight* weight : final_of) {
      out->final_graph.push_back(weight->graph);
      out->final_acoustic.push_back(weight->acoustic);
      append_tids(*weight, &out->final_tids, &out->final_tid_offsets);
    }
  }

  // Kaldi prints the start state first and readers may meet any order: sort arcs by state, keep their order within one.
  void append_arcs(Lattices* out) const {
    std::vector<int64_t> place(static_cast<size_t>(highest_) + 2, 0);
    for (const TextArc& arc : arcs_) ++place[arc.source + 1];
    const int64_t first = out->arc_offsets.back();
    for (int64_t state = 0; state <= highest_; ++state) {
      place[state + 1] += place[state];
      out->arc_offsets.push_back(first + place[state + 1]);
    }
    std::vector<const TextArc*> sorted(arcs_.size());
    for (const TextArc& arc : arcs_) sorted[place[arc.source]++] = &arc;
    for (const TextArc* arc : sorted) {
      out->arc_word.push_back(arc->word);
      out->arc_dest.push_back(arc->dest);
      out->arc_graph.push_back(arc->weight.graph);
      out->arc_acoustic.push_back(arc->weight.acoustic);
      append_tids(arc->weight, &out->arc_tids, &out->arc_tid_offsets);
    }
  }

  Form form_ = kUnknown;
  int32_t start_ = -1;
  int32_t highest_ = -1;
  int64_t num_lines_ = 0;
  std::vector<TextArc> arcs_;
  std::vector<std::pair<int32_t, Weight>> finals_;
  std::vector<int32_t> tids_;
};

}  // namespace

void read_text(ByteReader& in, Lattices* out) {
  Record record;
  for (;;) {
    const int64_t at = in.offset(), number = in.line_number();
    try {
      const ByteReader::Line line = in.take_line();
      const Fields fields = split(line.text);
      if (!line.complete && !line.text.empty())
        throw Fault("the archive ends in the middle of a line").expect("a newline").advise("is the file cut off?");
      if (fields.count > 0) {
        record.add_line(fields);
        continue;
      }
      record.check_numbering();
      if (!line.complete && (record.empty() || record.has_unnamed_state()))
        throw Fault("the archive ends in the middle of a lattice").expect("an empty line").find("end of file");
    } catch (Fault& fault) {
      fault.offset = at;
      fault.line = number;
      throw;
    }
    return record.append_to(out);
  }
}

}  // namespace kaldi_mpq
