// SPDX-License-Identifier: Apache-2.0
// A state of the result is a set of (state of the input, weight and string of transition-ids still owed there): all the
// places that one word string leads to, each by its best path. What they have in common, the best weight and the
// longest common prefix of the strings, is paid on the arc that leads to the set. Arcs without words are followed
// before a set is looked up, so that none are left. Sets are expanded in the order of the best path through them: their
// cost from the start is known by then, and with the exact cost to an end it says what is within the beam.
#include "determinize.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <unordered_map>

#include "shortest.h"
#include "strings.h"
#include "topology.h"

namespace kaldi_mpq {
namespace {

struct Weight {
  double graph = 0.0;
  double acoustic = 0.0;
  int32_t string = StringTree::kEmpty;
};

struct Element {
  int32_t state;
  Weight weight;
};

struct Arc {
  int32_t word;
  int32_t dest;
  Weight weight;
};

// A way on from a set: an arc with a word from one of its elements, whose string the arc's is still to be added to.
struct Step {
  int32_t word;
  int64_t arc;
  Weight from;
};

// A state of the result.
struct Set {
  int64_t begin, end;  // of its elements
  double to_go;        // scaled cost of the best way to an end
  double so_far;       // and from the start; may fall until the set is expanded
  bool expanded = false;
  bool final = false;
  Weight final_weight;
  std::vector<Arc> arcs;
};

class Determinizer {
 public:
  explicit Determinizer(const BatchView& batch, const DeterminizeOptions& options) : batch_(batch), options_(options) {}

  // Append the result for one lattice, or return why there is none.
  std::string run(int64_t index, Lattices& out) {
    lattice_ = batch_[index];
    if (topology_.sort(lattice_) != Fault::kNone) return describe_fault(lattice_, topology_, 0);
    prepare();
    limit_ = cutoff_;
    add(lattice_.start, Weight{});
    close();
    look_up(0.0);
    while (!queue_.empty()) {
      const int32_t set = queue_.top().second;
      queue_.pop();
      if (sets_[set].expanded) continue;
      expand(set);
      if (num_arcs_ > options_.max_arcs) return "more than " + std::to_string(options_.max_arcs) + " arcs";
      if (bytes() > options_.max_bytes) {
        return "more than " + std::to_string(options_.max_bytes >> 20) + " MB of memory";
      }
    }
    write(out);
    return "";
  }

 private:
  using Entry = std::pair<double, int32_t>;  // cost of the best path through a set, the set

  void prepare() {
    to_go_.compute(lattice_, topology_, options_.scales);
    // Rounding must not lose the best path.
    cutoff_ = to_go_[lattice_.start] + options_.beam + 1e-9 * (1.0 + std::abs(to_go_[lattice_.start]));
    const std::vector<int32_t>& order = topology_.order();
    rank_.assign(lattice_.num_states, -1);
    slot_.assign(lattice_.num_states, -1);
    significant_.assign(lattice_.num_states, 0);
    for (size_t i = 0; i < order.size(); ++i) rank_[order[i]] = static_cast<int32_t>(i);
    for (const int32_t state : order) {
      significant_[state] = lattice_.is_final(state);
      for (int64_t arc = lattice_.arc_begin[state]; arc < lattice_.arc_begin[state + 1]; ++arc) {
        if (present(arc) && lattice_.arc_word[arc] != 0) significant_[state] = 1;
      }
    }
    strings_.clear();
    sets_.clear();
    elements_.clear();
    by_hash_.clear();
    queue_ = {};
    num_arcs_ = 0;
  }

  bool present(int64_t arc) const { return lattice_.has_arc(arc) && topology_.has(lattice_.arc_dest[arc]); }

  double cost(const Weight& weight) const {
    return LatticeView::scaled(weight.graph, weight.acoustic, options_.scales);
  }

  // Kaldi's order: by cost, then by graph cost, then by string.
  bool better(const Weight& a, const Weight& b) const {
    const double cost_a = cost(a), cost_b = cost(b);
    if (cost_a != cost_b) return cost_a < cost_b;
    if (a.graph != b.graph) return a.graph < b.graph;
    return strings_.before(a.string, b.string);
  }

  Weight times_final(const Element& element) {
    const int64_t tid = batch_.final_tid_offsets[lattice_.first_state + element.state];
    const int64_t end = batch_.final_tid_offsets[lattice_.first_state + element.state + 1];
    return {element.weight.graph + lattice_.final_graph[element.state],
            element.weight.acoustic + lattice_.final_acoustic[element.state],
            strings_.append(element.weight.string, batch_.final_tids + tid, end - tid)};
  }

  // Put a state into the set in the making.
  void add(int32_t state, const Weight& weight) {
    slot_[state] = static_cast<int32_t>(made_.size());
    made_.push_back({state, weight});
    heap_.push_back(state);
    std::push_heap(heap_.begin(), heap_.end(), [this](int32_t a, int32_t b) { return rank_[a] > rank_[b]; });
  }

  // Put the state that an arc leads to into the set in the making, or improve what is known of it. The string of a path
  // that is not the best one is never made.
  void follow(int64_t arc, const Weight& from) {
    const int32_t dest = lattice_.arc_dest[arc];
    Weight weight{from.graph + lattice_.arc_graph[arc], from.acoustic + lattice_.arc_acoustic[arc], from.string};
    const double cost_here = cost(weight);
    if (cost_here + to_go_[dest] > limit_) return;
    const bool is_new = slot_[dest] < 0;
    if (!is_new) {
      const Weight& known = made_[slot_[dest]].weight;
      const double cost_known = cost(known);
      if (cost_here > cost_known || (cost_here == cost_known && weight.graph > known.graph)) return;
    }
    const int64_t tid = batch_.arc_tid_offsets[arc];
    weight.string = strings_.append(weight.string, batch_.arc_tids + tid, batch_.arc_tid_offsets[arc + 1] - tid);
    if (is_new) {
      add(dest, weight);
    } else if (better(weight, made_[slot_[dest]].weight)) {
      made_[slot_[dest]].weight = weight;
    }
  }

  // Follow the arcs without words from the set in the making; in topological order, so that a state's weight is final
  // when its turn comes. Leaves the states that matter, sorted.
  void close() {
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), [this](int32_t a, int32_t b) { return rank_[a] > rank_[b]; });
      const int32_t state = heap_.back();
      heap_.pop_back();
      for (int64_t arc = lattice_.arc_begin[state]; arc < lattice_.arc_begin[state + 1]; ++arc) {
        if (lattice_.arc_word[arc] != 0 || !present(arc)) continue;
        const Weight from = made_[slot_[state]].weight;
        follow(arc, from);
      }
    }
    for (const Element& element : made_) slot_[element.state] = -1;
    const auto useless = [this](const Element& element) { return !significant_[element.state]; };
    made_.erase(std::remove_if(made_.begin(), made_.end(), useless), made_.end());
    std::sort(made_.begin(), made_.end(), [](const Element& a, const Element& b) { return a.state < b.state; });
  }

  // Take out of the set in the making what its elements have in common.
  Weight normalize() {
    Weight common = made_[0].weight;
    int32_t prefix = common.string;
    for (const Element& element : made_) {
      if (better(element.weight, common)) common = element.weight;
      prefix = strings_.common_prefix(prefix, element.weight.string);
    }
    common.string = prefix;
    for (Element& element : made_) {
      element.weight.graph -= common.graph;
      element.weight.acoustic -= common.acoustic;
      element.weight.string = strings_.without(element.weight.string, strings_.length(prefix));
    }
    return common;
  }

  uint64_t hash() const {
    uint64_t value = 0x9E3779B97F4A7C15u;
    for (const Element& element : made_) {
      value = (value ^ static_cast<uint32_t>(element.state)) * 0xBF58476D1CE4E5B9u;
      value = (value ^ static_cast<uint32_t>(element.weight.string)) * 0x94D049BB133111EBu;
      value ^= value >> 29;
    }
    return value;
  }

  bool equal(const Set& set) const {
    if (set.end - set.begin != static_cast<int64_t>(made_.size())) return false;
    for (size_t i = 0; i < made_.size(); ++i) {
      const Element &a = made_[i], &b = elements_[set.begin + i];
      if (a.state != b.state || a.weight.string != b.weight.string) return false;
      if (std::abs(a.weight.graph - b.weight.graph) > options_.delta) return false;
      if (std::abs(a.weight.acoustic - b.weight.acoustic) > options_.delta) return false;
    }
    return true;
  }

  // The number of the set that was made, reached at this cost; nothing is in the making afterwards.
  int32_t look_up(double so_far) {
    std::vector<int32_t>& same_hash = by_hash_[hash()];
    auto found = std::find_if(same_hash.begin(), same_hash.end(), [this](int32_t i) { return equal(sets_[i]); });
    int32_t number;
    if (found != same_hash.end()) {
      number = *found;
    } else {
      number = static_cast<int32_t>(sets_.size());
      same_hash.push_back(number);
      Set set;
      set.begin = static_cast<int64_t>(elements_.size());
      elements_.insert(elements_.end(), made_.begin(), made_.end());
      set.end = static_cast<int64_t>(elements_.size());
      set.so_far = kInfinity;
      set.to_go = kInfinity;
      for (const Element& element : made_) {
        set.to_go = std::min(set.to_go, cost(element.weight) + to_go_[element.state]);
      }
      sets_.push_back(std::move(set));
    }
    made_.clear();
    Set& set = sets_[number];
    if (!set.expanded && so_far < set.so_far) {
      set.so_far = so_far;
      queue_.emplace(so_far + set.to_go, number);
    }
    return number;
  }

  void expand(int32_t number) {
    const double so_far = sets_[number].so_far;
    sets_[number].expanded = true;
    limit_ = cutoff_ - so_far;
    steps_.clear();
    for (int64_t i = sets_[number].begin; i < sets_[number].end; ++i) {
      const Element element = elements_[i];
      if (lattice_.is_final(element.state)) finish(sets_[number], times_final(element));
      for (int64_t arc = lattice_.arc_begin[element.state]; arc < lattice_.arc_begin[element.state + 1]; ++arc) {
        if (lattice_.arc_word[arc] == 0 || !present(arc)) continue;
        const double rest = lattice_.arc_cost(arc, options_.scales) + to_go_[lattice_.arc_dest[arc]];
        if (cost(element.weight) + rest <= limit_) steps_.push_back({lattice_.arc_word[arc], arc, element.weight});
      }
    }
    std::stable_sort(steps_.begin(), steps_.end(), [](const Step& a, const Step& b) { return a.word < b.word; });
    for (size_t i = 0; i < steps_.size();) {
      const int32_t word = steps_[i].word;
      for (; i < steps_.size() && steps_[i].word == word; ++i) follow(steps_[i].arc, steps_[i].from);
      close();
      if (made_.empty()) continue;  // rounding put all of it just beyond the beam
      const Weight weight = normalize();
      const int32_t dest = look_up(so_far + cost(weight));
      sets_[number].arcs.push_back({word, dest, weight});
      ++num_arcs_;
    }
  }

  void finish(Set& set, const Weight& weight) {
    if (cost(weight) > limit_) return;
    if (!set.final || better(weight, set.final_weight)) set.final_weight = weight;
    set.final = true;
  }

  int64_t bytes() const {
    constexpr int64_t kTreeNode = 32;  // with its places in the hash table
    return static_cast<int64_t>(elements_.size() * sizeof(Element) + sets_.size() * (sizeof(Set) + 64) +
                                num_arcs_ * sizeof(Arc)) +
           strings_.size() * kTreeNode;
  }

  void write_string(int32_t string, std::vector<int64_t>& offsets, std::vector<int32_t>& tids) {
    strings_.read(string, 0, &buffer_);
    tids.insert(tids.end(), buffer_.begin(), buffer_.end());
    offsets.push_back(static_cast<int64_t>(tids.size()));
  }

  void write(Lattices& out) {
    for (const Set& set : sets_) {
      for (const Arc& arc : set.arcs) {
        out.arc_word.push_back(arc.word);
        out.arc_dest.push_back(arc.dest);
        out.arc_graph.push_back(arc.weight.graph);
        out.arc_acoustic.push_back(arc.weight.acoustic);
        write_string(arc.weight.string, out.arc_tid_offsets, out.arc_tids);
      }
      out.arc_offsets.push_back(static_cast<int64_t>(out.arc_word.size()));
      out.final_graph.push_back(set.final ? set.final_weight.graph : kInfinity);
      out.final_acoustic.push_back(set.final ? set.final_weight.acoustic : kInfinity);
      write_string(set.final ? set.final_weight.string : StringTree::kEmpty, out.final_tid_offsets, out.final_tids);
    }
  }

  const BatchView& batch_;
  const DeterminizeOptions options_;
  LatticeView lattice_{};
  Topology topology_;
  CostToGo to_go_;
  double cutoff_ = kInfinity;         // cost of the worst path that is wanted
  double limit_ = kInfinity;          // the same from the set that is expanded on
  std::vector<int32_t> rank_;         // of each state in topological order
  std::vector<uint8_t> significant_;  // states that are final or that an arc with a word leaves
  StringTree strings_;
  std::vector<Set> sets_;
  std::vector<Element> elements_;  // of all sets
  std::unordered_map<uint64_t, std::vector<int32_t>> by_hash_;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> queue_;
  int64_t num_arcs_ = 0;
  // The set in the making, where each state is in it, and the states whose arcs are still to be followed.
  std::vector<Element> made_;
  std::vector<int32_t> slot_, heap_;
  std::vector<Step> steps_;
  std::vector<int32_t> buffer_;
};

}  // namespace

Determinized determinize(const BatchView& batch, const DeterminizeOptions& options) {
  Determinized out;
  Determinizer determinizer(batch, options);
  for (int64_t i = 0; i < batch.size; ++i) {
    const int64_t first = out.lattices.state_offsets.back();
    out.reasons.push_back(determinizer.run(i, out.lattices));
    const int64_t end = static_cast<int64_t>(out.lattices.final_graph.size());
    out.lattices.state_offsets.push_back(end);
    out.lattices.start.push_back(end > first ? 0 : -1);
    out.lattices.compact.push_back(1);
  }
  return out;
}

}  // namespace kaldi_mpq
