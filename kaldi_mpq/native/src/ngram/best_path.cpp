// SPDX-License-Identifier: Apache-2.0
// The cheapest path of a sentence through a non-deterministic automaton: dynamic programming over the set of states
// that the words so far can reach. In a backoff n-gram that set has at most as many states as the n-gram has orders.
#include <unordered_map>

#include "automaton.h"
#include "score_batch.h"

namespace kaldi_mpq {
namespace {

// A state that can be reached, at what cost, and from which entry of the level before at what cost.
struct Entry {
  int32_t state;
  int32_t origin;
  double total;
  double step;
};

// A set of entries with one entry, the cheapest, per state.
class Level {
 public:
  const std::vector<Entry>& entries() const { return entries_; }

  void clear() {
    entries_.clear();
    index_.clear();
  }

  // Returns the entry's position if it is new or cheaper than the one there was, else -1.
  int32_t offer(const Entry& entry) {
    const int32_t at = find(entry.state);
    if (at < 0) {
      entries_.push_back(entry);
      const int32_t last = static_cast<int32_t>(entries_.size()) - 1;
      if (last == kSmall)
        for (int32_t i = 0; i < last; ++i) index_[entries_[i].state] = i;
      if (last >= kSmall) index_[entry.state] = last;
      return last;
    }
    if (!(entry.total < entries_[at].total)) return -1;
    entries_[at] = entry;
    return at;
  }

 private:
  static constexpr int32_t kSmall = 16;  // up to here looking through all is faster than hashing

  int32_t find(int32_t state) const {
    if (entries_.size() <= kSmall) {
      for (size_t i = 0; i < entries_.size(); ++i)
        if (entries_[i].state == state) return static_cast<int32_t>(i);
      return -1;
    }
    const auto found = index_.find(state);
    return found == index_.end() ? -1 : found->second;
  }

  std::vector<Entry> entries_;
  std::unordered_map<int32_t, int32_t> index_;
};

class BestPath {
 public:
  explicit BestPath(const Automaton& automaton) : automaton_(automaton), levels_(1) {
    levels_[0].offer({automaton.start, -1, 0.0, 0.0});
  }

  void truncate(int64_t words) { depth_ = words; }

  void advance(int32_t word) {
    close(levels_[depth_]);
    if (levels_.size() == static_cast<size_t>(++depth_)) levels_.emplace_back();
    Level& next = levels_[depth_];
    next.clear();
    if (word == 0) {
      const std::vector<Entry>& same = levels_[depth_ - 1].entries();
      for (size_t i = 0; i < same.size(); ++i)
        next.offer({same[i].state, static_cast<int32_t>(i), same[i].total, 0.0});
      return;
    }
    const int32_t label = automaton_.read_as(word);
    for (const Entry& from : closure_.entries()) {
      const ArcRange arcs = automaton_.with_label(from.state, label);
      for (int64_t arc = arcs.begin; arc < arcs.end; ++arc) {
        const auto& step = automaton_.steps[arc];
        if (step.cost < kInfinity) next.offer({step.dest, from.origin, from.total + step.cost, from.step + step.cost});
      }
    }
    if (next.entries().empty()) restart(next);
  }

  // Costs of the `size` words before the end, and of the end.
  double finish(int64_t size, double* word_cost) {
    close(levels_[depth_]);
    double best = kInfinity, cost = kInfinity;
    int32_t at = cheapest(levels_[depth_].entries());
    for (const Entry& from : closure_.entries()) {
      const double total = from.total + automaton_.final_cost[from.state];
      if (!(total < best)) continue;
      best = total;
      cost = from.step + automaton_.final_cost[from.state];
      at = from.origin;
    }
    for (int64_t i = size; i > 0; --i) {
      const Entry& entry = levels_[i].entries()[at];
      word_cost[i - 1] = entry.step;
      at = entry.origin;
    }
    return cost;
  }

 private:
  static int32_t cheapest(const std::vector<Entry>& entries) {
    size_t best = 0;
    for (size_t i = 1; i < entries.size(); ++i)
      if (entries[i].total < entries[best].total) best = i;
    return static_cast<int32_t>(best);
  }

  // Set closure_ to what epsilon arcs reach from `level`; origins are positions in `level`, steps start at 0.
  void close(const Level& level) {
    closure_.clear();
    queue_.clear();
    for (size_t i = 0; i < level.entries().size(); ++i) {
      const Entry& entry = level.entries()[i];
      queue_.push_back(closure_.offer({entry.state, static_cast<int32_t>(i), entry.total, 0.0}));
    }
    // First in, first out: an entry that became cheaper is expanded again. There are no cycles, so this ends.
    for (size_t head = 0; head < queue_.size(); ++head) {
      const Entry from = closure_.entries()[queue_[head]];
      const int64_t end = automaton_.offsets[from.state + 1];
      for (int64_t arc = automaton_.offsets[from.state]; arc < end && automaton_.labels[arc] == 0; ++arc) {
        const auto& step = automaton_.steps[arc];
        if (step.cost == kInfinity) continue;
        const int32_t at = closure_.offer({step.dest, from.origin, from.total + step.cost, from.step + step.cost});
        if (at >= 0) queue_.push_back(at);
      }
    }
  }

  // No state has the word: it costs infinity, and reading goes on in the state with the shortest history.
  void restart(Level& next) {
    const std::vector<Entry>& entries = levels_[depth_ - 1].entries();
    const int32_t origin = cheapest(entries);
    const int32_t state = automaton_.shortest_history(entries[origin].state);
    next.offer({state, origin, entries[origin].total, kInfinity});
  }

  const Automaton& automaton_;
  std::vector<Level> levels_;  // entries before word 0, 1, ...
  int64_t depth_ = 0;
  Level closure_;
  std::vector<int32_t> queue_;
};

}  // namespace

void score_best(const Automaton& automaton, const int64_t* offsets, int64_t sentences, const int32_t* words,
                double* word_cost, double* final_cost) {
  BestPath path(automaton);
  int64_t before = 0, before_size = 0;
  for (int64_t p = 0; p < sentences; ++p) {
    const int64_t begin = offsets[p], size = offsets[p + 1] - begin;
    const int64_t shared = shared_prefix(words + before, before_size, words + begin, size);
    path.truncate(shared);
    for (int64_t i = shared; i < size; ++i) path.advance(words[begin + i]);
    final_cost[p] = path.finish(size, word_cost + begin);
    before = begin;
    before_size = size;
  }
}

}  // namespace kaldi_mpq
