// SPDX-License-Identifier: Apache-2.0
#include "automaton.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "fault.h"

namespace kaldi_mpq {

ArcRange Automaton::with_label(int32_t state, int32_t label) const {
  const auto first = labels.begin() + offsets[state], last = labels.begin() + offsets[state + 1];
  const auto from = std::lower_bound(first, last, label);
  auto to = from;
  while (to != last && *to == label) ++to;
  return {from - labels.begin(), to - labels.begin()};
}

double Automaton::advance(State& state, int32_t word) const {
  const int32_t label = read_as(word);
  double cost = 0.0;
  while (true) {
    const auto first = labels.begin() + offsets[state], last = labels.begin() + offsets[state + 1];
    const auto found = std::lower_bound(first, last, label);
    if (found != last && *found == label) {
      const Step& step = steps[found - labels.begin()];
      state = step.dest;
      return cost + step.cost;
    }
    if (first == last || *first != 0) return kInfinity;
    const Step& backoff = steps[offsets[state]];
    state = backoff.dest;
    cost += backoff.cost;
  }
}

double Automaton::finish_cost(State state) const {
  double cost = 0.0;
  while (final_cost[state] == kInfinity) {
    const int64_t first = offsets[state];
    if (first == offsets[state + 1] || labels[first] != 0) return kInfinity;
    cost += steps[first].cost;
    state = steps[first].dest;
  }
  return cost + final_cost[state];
}

Automaton::State Automaton::shortest_history(State state) const {
  while (offsets[state] < offsets[state + 1] && labels[offsets[state]] == 0) state = steps[offsets[state]].dest;
  return state;
}

void Automaton::finish() {
  for (int32_t state = 0; state < num_states(); ++state) {
    sort_arcs(state);
    const int64_t begin = offsets[state], end = offsets[state + 1];
    if (begin < end) max_label = std::max(max_label, labels[end - 1]);
    const auto last = labels.begin() + end;
    if (std::adjacent_find(labels.begin() + begin, last) != last) ++ambiguous_states;
  }
  refuse_epsilon_cycles();
}

void Automaton::sort_arcs(int32_t state) {
  const int64_t begin = offsets[state], end = offsets[state + 1];
  const auto before = [this](int64_t a, int64_t b) {
    return labels[a] != labels[b] ? labels[a] < labels[b] : steps[a].cost < steps[b].cost;
  };
  int64_t sorted = begin + 1;
  while (sorted < end && !before(sorted, sorted - 1)) ++sorted;
  if (sorted >= end) return;  // Kaldi has sorted nearly every G.fst already

  std::vector<int64_t> order(end - begin);
  std::iota(order.begin(), order.end(), begin);
  std::stable_sort(order.begin(), order.end(), before);
  const std::vector<int32_t> old_labels(labels.begin() + begin, labels.begin() + end);
  const std::vector<Step> old_steps(steps.begin() + begin, steps.begin() + end);
  for (int64_t i = 0; i < end - begin; ++i) {
    labels[begin + i] = old_labels[order[i] - begin];
    steps[begin + i] = old_steps[order[i] - begin];
  }
}

// Depth first along epsilon arcs only, which are the first arcs of a state.
void Automaton::refuse_epsilon_cycles() const {
  enum : uint8_t { kNew, kOpen, kDone };
  std::vector<uint8_t> colour(num_states(), kNew);
  struct Visit {
    int32_t state;
    int64_t arc;
  };
  std::vector<Visit> stack;
  for (int32_t root = 0; root < num_states(); ++root) {
    if (colour[root] != kNew) continue;
    stack.assign(1, {root, offsets[root]});
    colour[root] = kOpen;
    while (!stack.empty()) {
      Visit& top = stack.back();
      if (top.arc == offsets[top.state + 1] || labels[top.arc] != 0) {
        colour[top.state] = kDone;
        stack.pop_back();
        continue;
      }
      const int32_t next = steps[top.arc++].dest;
      if (colour[next] == kOpen)
        throw Fault("epsilon arcs form a cycle", "", "backoff arcs that end in one state",
                    "state " + std::to_string(next) + " that backs off to itself");
      if (colour[next] == kDone) continue;
      colour[next] = kOpen;
      stack.push_back({next, offsets[next]});
    }
  }
}

}  // namespace kaldi_mpq
