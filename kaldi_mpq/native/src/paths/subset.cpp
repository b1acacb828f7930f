// SPDX-License-Identifier: Apache-2.0
#include "subset.h"

#include <cmath>
#include <stdexcept>
#include <unordered_map>

#include "topology.h"

namespace kaldi_mpq {
namespace {

void copy_tids(const int64_t* offsets, const int32_t* tids, int64_t from, std::vector<int64_t>& to_offsets,
               std::vector<int32_t>& to_tids) {
  to_tids.insert(to_tids.end(), tids + offsets[from], tids + offsets[from + 1]);
  to_offsets.push_back(static_cast<int64_t>(to_tids.size()));
}

// Append arc `arc` of the batch; its transition-ids and acoustic cost stay as they are.
void add_arc(const BatchView& batch, int64_t arc, int32_t dest, double graph, Lattices& out) {
  out.arc_word.push_back(batch.arc_word[arc]);
  out.arc_dest.push_back(dest);
  out.arc_graph.push_back(graph);
  out.arc_acoustic.push_back(batch.arc_acoustic[arc]);
  copy_tids(batch.arc_tid_offsets, batch.arc_tids, arc, out.arc_tid_offsets, out.arc_tids);
}

// End the state whose arcs were added last: it is not final (`state` < 0), or like `state` of the batch.
void end_state(const BatchView& batch, int64_t state, double graph, Lattices& out) {
  out.arc_offsets.push_back(static_cast<int64_t>(out.arc_word.size()));
  if (state >= 0) {
    out.final_graph.push_back(graph);
    out.final_acoustic.push_back(batch.final_acoustic[state]);
    copy_tids(batch.final_tid_offsets, batch.final_tids, state, out.final_tid_offsets, out.final_tids);
  } else {
    out.final_graph.push_back(kInfinity);
    out.final_acoustic.push_back(kInfinity);
    out.final_tid_offsets.push_back(out.final_tid_offsets.back());
  }
}

void end_lattice(uint8_t compact, Lattices& out) {
  const int64_t num_states = static_cast<int64_t>(out.final_graph.size());
  out.start.push_back(num_states > out.state_offsets.back() ? 0 : -1);
  out.compact.push_back(compact);
  out.state_offsets.push_back(num_states);
}

// The paths of one lattice as a tree. Node 0 is the root; a node is made after its parent, so that node numbers are
// topologically sorted.
class PathTree {
 public:
  PathTree(const BatchView& batch, const RescoredPaths& paths) : batch_(batch), paths_(paths) {}

  // Begin the tree of lattice number `lattice`.
  void start(int64_t lattice) {
    lattice_ = batch_[lattice];
    nodes_.assign(1, Node{});
    child_.clear();
  }

  void add(int64_t path) {
    int32_t node = 0;
    int32_t state = lattice_.start;
    for (int64_t i = paths_.arc_offsets[path]; i < paths_.arc_offsets[path + 1]; ++i) {
      const int64_t arc = paths_.arcs[i];
      if (!leaves(state, arc)) throw fault(path, "is not a path of its lattice");
      node = child(node, arc, paths_.arc_graph[i]);
      if (!same(nodes_[node].graph, paths_.arc_graph[i])) {
        throw fault(path, "disagrees with an earlier one on the graph cost of arc " + std::to_string(arc));
      }
      state = lattice_.arc_dest[arc];
    }
    if (!exists(state) || paths_.final_state[path] != lattice_.first_state + state) {
      throw fault(path, "does not end in its final state");
    }
    if (nodes_[node].path >= 0) throw fault(path, "has the arcs of path " + std::to_string(nodes_[node].path));
    nodes_[node].path = path;
  }

  void write(Lattices& out) const {
    for (const Node& node : nodes_) {
      for (int32_t child = node.first_child; child != 0; child = nodes_[child].sibling) {
        add_arc(batch_, nodes_[child].arc, child, nodes_[child].graph, out);
      }
      const int64_t path = node.path;
      end_state(batch_, path < 0 ? -1 : paths_.final_state[path], path < 0 ? 0.0 : paths_.final_graph[path], out);
    }
  }

 private:
  struct Node {
    int64_t arc = -1;      // of the batch, that leads here
    double graph = 0.0;    // its new cost
    int64_t path = -1;     // that ends here
    int32_t first_child = 0, last_child = 0, sibling = 0;  // 0: none, for the root is nobody's child
  };

  static std::invalid_argument fault(int64_t path, const std::string& what) {
    return std::invalid_argument("path " + std::to_string(path) + " " + what);
  }

  // A language model may round differently from one batch to the next.
  static bool same(double a, double b) { return a == b || std::abs(a - b) <= 1e-6 * (1.0 + std::abs(a)); }

  bool exists(int32_t state) const { return state >= 0 && state < lattice_.num_states; }
  bool leaves(int32_t state, int64_t arc) const {
    return exists(state) && arc >= lattice_.arc_begin[state] && arc < lattice_.arc_begin[state + 1];
  }

  // The node that `arc` leads to from `parent`; it is made if there is none.
  int32_t child(int32_t parent, int64_t arc, double graph) {
    const int32_t next = static_cast<int32_t>(nodes_.size());
    const uint64_t local_arc = static_cast<uint64_t>(arc - lattice_.arc_begin[0]);
    const auto [found, is_new] = child_.try_emplace(static_cast<uint64_t>(parent) << 32 | local_arc, next);
    if (!is_new) return found->second;
    nodes_.push_back(Node{arc, graph});
    Node& p = nodes_[parent];
    (p.first_child == 0 ? p.first_child : nodes_[p.last_child].sibling) = next;
    p.last_child = next;
    return next;
  }

  const BatchView& batch_;
  const RescoredPaths& paths_;
  LatticeView lattice_{};
  std::vector<Node> nodes_;
  std::unordered_map<uint64_t, int32_t> child_;  // (node, arc) -> node
};

}  // namespace

Lattices subset(const BatchView& batch, const uint8_t* keep_arc, const uint8_t* keep_final) {
  Lattices out;
  Topology topology;
  std::vector<int32_t> new_number;
  for (int64_t i = 0; i < batch.size; ++i) {
    const LatticeView lattice = batch[i];
    topology.sort(lattice, keep_arc, keep_final);
    new_number.assign(lattice.num_states, -1);
    int32_t count = 0;
    for (const int32_t state : topology.order()) new_number[state] = count++;
    for (const int32_t state : topology.order()) {
      for (int64_t arc = lattice.arc_begin[state]; arc < lattice.arc_begin[state + 1]; ++arc) {
        if (!lattice.has_arc(arc) || keep_arc[arc] == 0 || !topology.has(lattice.arc_dest[arc])) continue;
        add_arc(batch, arc, new_number[lattice.arc_dest[arc]], batch.arc_graph[arc], out);
      }
      const int64_t from = lattice.first_state + state;
      end_state(batch, lattice.is_final(state) && keep_final[from] ? from : -1, batch.final_graph[from], out);
    }
    end_lattice(batch.compact[i], out);
  }
  return out;
}

Lattices path_lattices(const BatchView& batch, const RescoredPaths& paths) {
  Lattices out;
  PathTree tree(batch, paths);
  for (int64_t i = 0; i < batch.size; ++i) {
    const int64_t begin = paths.lattice_offsets[i], end = paths.lattice_offsets[i + 1];
    if (begin < end) {
      tree.start(i);
      for (int64_t path = begin; path < end; ++path) tree.add(path);
      tree.write(out);
    }
    end_lattice(1, out);
  }
  return out;
}

}  // namespace kaldi_mpq
