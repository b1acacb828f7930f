// SPDX-License-Identifier: Apache-2.0
#include "cheapest.h"

#include <algorithm>
#include <string>

#include "fault.h"

namespace kaldi_mpq {

Cheapest::Cheapest(const Automaton& automaton) : automaton_(automaton) {
  std::vector<int32_t> chain(automaton.num_states(), 1);
  for (bool changed = true; changed;) {  // as often as the longest chain is long; there are no cycles
    changed = false;
    for (int32_t s = 0; s < automaton.num_states(); ++s)
      for (int64_t arc = automaton.offsets[s]; arc < automaton.offsets[s + 1] && automaton.labels[arc] == 0; ++arc) {
        const int32_t longer = chain[automaton.steps[arc].dest] + 1;
        if (longer <= chain[s]) continue;
        chain[s] = longer;
        changed = true;
      }
  }
  for (const int32_t length : chain) most_places_ = std::max<int64_t>(most_places_, length);
}

Cheapest::State Cheapest::initial() const { return {{automaton_.start, 0.0f}}; }

// Returns where `one` is if it is new or cheaper than what there was, else -1.
int32_t Cheapest::offer(std::vector<Reached>& reached, const Reached& one) {
  for (size_t i = 0; i < reached.size(); ++i) {
    if (reached[i].state != one.state) continue;
    if (!(one.cost < reached[i].cost)) {
      // As cheap by epsilon arcs alone: the place need not be kept.
      if (one.by_epsilon && one.cost == reached[i].cost) reached[i].by_epsilon = true;
      return -1;
    }
    reached[i] = one;
    return static_cast<int32_t>(i);
  }
  reached.push_back(one);
  return static_cast<int32_t>(reached.size()) - 1;
}

// Add what epsilon arcs reach.
void Cheapest::close(std::vector<Reached>& reached) const {
  std::vector<int32_t> queue(reached.size());
  for (size_t i = 0; i < queue.size(); ++i) queue[i] = static_cast<int32_t>(i);
  for (size_t head = 0; head < queue.size(); ++head) {
    const Reached from = reached[queue[head]];
    const int64_t end = automaton_.offsets[from.state + 1];
    for (int64_t arc = automaton_.offsets[from.state]; arc < end && automaton_.labels[arc] == 0; ++arc) {
      const auto& step = automaton_.steps[arc];
      if (step.cost == kInfinity) continue;
      const int32_t at = offer(reached, {step.dest, from.cost + step.cost, true});
      if (at >= 0) queue.push_back(at);
    }
  }
}

// Make a state of what was reached, and return the cost of its cheapest place.
double Cheapest::settle(std::vector<Reached>& reached, State& state) const {
  close(reached);
  double least = kInfinity;
  for (const Reached& one : reached) least = std::min(least, one.cost);
  state.clear();
  for (const Reached& one : reached)
    if (!one.by_epsilon) state.push_back({one.state, static_cast<float>(one.cost - least)});
  std::sort(state.begin(), state.end(), [](const Place& a, const Place& b) { return a.state < b.state; });
  if (static_cast<int64_t>(state.size()) > most_places_)
    throw Fault("not a backoff n-gram", "", "at most " + std::to_string(most_places_) + " states after some words",
                std::to_string(state.size()), "read it with --old-reading backoff");
  return least;
}

double Cheapest::advance(State& state, int32_t word) const {
  const int32_t label = automaton_.read_as(word);
  std::vector<Reached> before, after;
  for (const Place& place : state) before.push_back({place.state, place.behind, false});
  close(before);
  for (const Reached& from : before) {
    const ArcRange arcs = automaton_.with_label(from.state, label);
    for (int64_t arc = arcs.begin; arc < arcs.end; ++arc) {
      const auto& step = automaton_.steps[arc];
      if (step.cost < kInfinity) offer(after, {step.dest, from.cost + step.cost, false});
    }
  }
  if (!after.empty()) return settle(after, state);
  const auto best = std::min_element(state.begin(), state.end(),
                                     [](const Place& a, const Place& b) { return a.behind < b.behind; });
  state = {{automaton_.shortest_history(best->state), 0.0f}};
  return kInfinity;
}

double Cheapest::finish_cost(const State& state) const {
  std::vector<Reached> reached;
  for (const Place& place : state) reached.push_back({place.state, place.behind, false});
  close(reached);
  double best = kInfinity;
  for (const Reached& one : reached) best = std::min(best, one.cost + automaton_.final_cost[one.state]);
  return best;
}

}  // namespace kaldi_mpq
