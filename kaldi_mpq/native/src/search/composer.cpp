// SPDX-License-Identifier: Apache-2.0
#include "composer.h"

#include <algorithm>
#include <limits>

namespace kaldi_mpq {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int64_t kFirstRound = 100;  // arcs

uint64_t pair_key(int32_t a, int32_t b) {
  return static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32 | static_cast<uint32_t>(b);
}

}  // namespace

Composer::Composer(const LatticeView& lattice, const SearchOptions& options, int32_t start)
    : lattice_(lattice), options_(options) {
  find_exits();
  State first{};
  first.model = start;
  first.backward = kInfinity;
  first.before = first.first_arc = first.last_arc = -1;
  states_.push_back(first);
  state_of_[pair_key(0, start)] = 0;
}

// As Kaldi compares costs: each part rounded to single precision, their sum in double.
double Composer::cost(double graph, double acoustic, float change) const {
  const float scaled = static_cast<float>(options_.acoustic_scale * acoustic);
  return static_cast<double>(static_cast<float>(graph) + change) + static_cast<double>(scaled);
}

void Composer::find_exits() {
  const int32_t count = lattice_.num_states;
  exit_begin_.assign(count + 1, 0);
  for (int32_t s = 0; s < count; ++s) {
    int64_t exits = lattice_.is_final(s) ? 1 : 0;
    for (int64_t arc = lattice_.arc_begin[s]; arc < lattice_.arc_begin[s + 1]; ++arc) exits += lattice_.has_arc(arc);
    exit_begin_[s + 1] = exit_begin_[s] + exits;
  }
  exits_.resize(exit_begin_[count]);
  to_go_.assign(count, kInf);
  for (int32_t s = count - 1; s >= 0; --s) {
    auto exit = exits_.begin() + exit_begin_[s];
    const auto first = exit;
    if (lattice_.is_final(s))
      *exit++ = {static_cast<float>(cost(lattice_.final_graph[s], lattice_.final_acoustic[s], 0.0f)), kFinal};
    for (int64_t arc = lattice_.arc_begin[s]; arc < lattice_.arc_begin[s + 1]; ++arc) {
      if (!lattice_.has_arc(arc)) continue;
      const double own = cost(lattice_.arc_graph[arc], lattice_.arc_acoustic[arc], 0.0f);
      *exit++ = {static_cast<float>(to_go_[lattice_.arc_dest[arc]] + own), arc};
    }
    std::sort(first, exit, [](const Exit& a, const Exit& b) { return a.cost != b.cost ? a.cost < b.cost : a.arc < b.arc; });
    to_go_[s] = first->cost;
  }
}

// How much worse the exit to be tried next is than the best one; infinity when all have been tried.
float Composer::gap(const State& state) const {
  const int64_t at = exit_begin_[state.lattice] + state.next;
  return at < exit_begin_[state.lattice + 1] ? exits_[at].cost - to_go_[state.lattice] : kInf;
}

float Composer::priority(const State& state) const {
  return static_cast<float>(state.forward + to_go_[state.lattice] + state.correction + gap(state) - to_go_[0]);
}

void Composer::push(int32_t state) {
  const float value = priority(states_[state]);
  if (value < cut_) queue_.emplace(value, state);
}

void Composer::ask(std::vector<Question>& questions) {
  pending_.clear();
  asked_.clear();
  while (!done_ && pending_.size() < static_cast<size_t>(reached_ ? options_.frontier : 1)) {
    if (!in_round_) {
      if (!pending_.empty()) return;
      begin_round();
    } else if (queue_.empty()) {
      if (pending_.empty()) done_ = true;
      return;
    } else if (num_arcs() + static_cast<int64_t>(pending_.size()) >= limit_) {
      in_round_ = false;
    } else {
      const int32_t state = queue_.top().second;
      queue_.pop();
      expand(state, questions);
    }
  }
}

void Composer::begin_round() {
  if (best_out_ != kInfinity && num_arcs() >= options_.max_arcs) {
    done_ = true;
    return;
  }
  refresh();
  limit_ = arcs_.empty() ? kFirstRound
                         : std::max(num_arcs() + 1, static_cast<int64_t>(static_cast<double>(num_arcs()) * options_.growth));
  if (best_out_ != kInfinity) limit_ = std::min(limit_, options_.max_arcs);
  in_round_ = true;
}

void Composer::expand(int32_t from, std::vector<Question>& questions) {
  State& state = states_[from];
  const int64_t arc = exits_[exit_begin_[state.lattice] + state.next].arc;
  const int32_t model = state.model;
  ++state.next;
  push(from);
  const int32_t word = arc == kFinal ? kEnd : lattice_.arc_word[arc];
  if (word == 0) return follow(from, arc, {model, 0.0f});
  const auto known = known_.find(pair_key(model, word));
  if (known == known_.end()) {
    pending_.push_back({from, arc});
    asked_.push_back({model, word});
    questions.push_back({model, word});
  } else if (arc == kFinal) {
    stop(from, known->second.cost);
  } else {
    follow(from, arc, known->second);
  }
}

void Composer::answer(const Answer* answers) {
  for (size_t i = 0; i < pending_.size(); ++i) {
    known_.emplace(pair_key(asked_[i].state, asked_[i].word), answers[i]);
    if (pending_[i].arc == kFinal)
      stop(pending_[i].state, answers[i].cost);
    else
      follow(pending_[i].state, pending_[i].arc, answers[i]);
  }
  pending_.clear();
  asked_.clear();
}

void Composer::follow(int32_t from, int64_t arc, const Answer& answer) {
  if (answer.cost == kInf) return;
  const double arc_cost = cost(lattice_.arc_graph[arc], lattice_.arc_acoustic[arc], answer.cost);
  const int32_t lattice_state = lattice_.arc_dest[arc];
  const auto [found, is_new] =
      state_of_.try_emplace(pair_key(lattice_state, answer.next), static_cast<int32_t>(states_.size()));
  const int32_t to = found->second;
  if (is_new) {
    const State& source = states_[from];
    State state{};
    state.lattice = lattice_state;
    state.model = answer.next;
    state.forward = source.forward + arc_cost;
    state.backward = kInfinity;
    state.depth = source.depth + 1;
    state.correction = source.correction + static_cast<float>(state.depth) * depth_penalty_;
    state.before = from;
    state.first_arc = state.last_arc = -1;
    states_.push_back(state);
    push(to);
  }
  const int32_t number = static_cast<int32_t>(arcs_.size());
  arcs_.push_back({arc, to, -1, answer.cost, arc_cost});
  State& source = states_[from];
  (source.first_arc < 0 ? source.first_arc : arcs_[source.last_arc].sibling) = number;
  source.last_arc = number;
}

void Composer::stop(int32_t at, float change) {
  if (change == kInf) return;
  State& state = states_[at];
  state.final = true;
  state.final_change = change;
  state.backward =
      std::min(state.backward, cost(lattice_.final_graph[state.lattice], lattice_.final_acoustic[state.lattice], change));
  if (!reached_) {
    reached_ = true;
    depth_penalty_ = 0.0f;
    refresh();
  }
}

void Composer::sort_states() {
  std::vector<int32_t> begin(lattice_.num_states + 1, 0);
  for (const State& state : states_) ++begin[state.lattice + 1];
  for (int32_t s = 0; s < lattice_.num_states; ++s) begin[s + 1] += begin[s];
  order_.resize(states_.size());
  for (size_t i = 0; i < states_.size(); ++i) order_[begin[states_[i].lattice]++] = static_cast<int32_t>(i);
}

void Composer::recompute_costs() {
  sort_states();
  for (State& state : states_) {
    state.forward = kInfinity;
    state.before = -1;
  }
  states_[0].forward = 0.0;
  states_[0].depth = 0;
  for (const int32_t from : order_) {
    const State& source = states_[from];
    for (int32_t arc = source.first_arc; arc >= 0; arc = arcs_[arc].sibling) {
      State& dest = states_[arcs_[arc].dest];
      const double forward = source.forward + arcs_[arc].cost;
      if (forward >= dest.forward) continue;
      dest.forward = forward;
      dest.before = from;
      dest.depth = source.depth + 1;
    }
  }
  for (auto at = order_.rbegin(); at != order_.rend(); ++at) {
    State& state = states_[*at];
    state.backward = kInfinity;
    if (state.final)
      state.backward = cost(lattice_.final_graph[state.lattice], lattice_.final_acoustic[state.lattice], state.final_change);
    for (int32_t arc = state.first_arc; arc >= 0; arc = arcs_[arc].sibling)
      state.backward = std::min(state.backward, arcs_[arc].cost + states_[arcs_[arc].dest].backward);
  }
  best_out_ = states_[0].backward;
}

void Composer::refresh() {
  recompute_costs();
  cut_ = static_cast<float>(best_out_ - to_go_[0] + options_.beam);
  for (const int32_t number : order_) {
    State& state = states_[number];
    if (state.backward != kInfinity)
      state.correction = static_cast<float>(state.backward - to_go_[state.lattice] + state.depth * depth_penalty_);
    else
      state.correction = state.before < 0 ? 0.0f : states_[state.before].correction + depth_penalty_;
  }
  queue_ = {};
  for (size_t i = 0; i < states_.size(); ++i) push(static_cast<int32_t>(i));
}

void Composer::write(const BatchView& batch, Lattices& out) {
  recompute_costs();
  if (best_out_ == kInfinity) return;
  std::vector<int32_t> number(states_.size(), -1);
  int32_t count = 0;
  for (const int32_t state : order_)
    if (states_[state].backward != kInfinity) number[state] = count++;
  const auto copy_tids = [](const int64_t* offsets, const int32_t* tids, int64_t from, std::vector<int32_t>& to,
                            std::vector<int64_t>& to_offsets) {
    to.insert(to.end(), tids + offsets[from], tids + offsets[from + 1]);
    to_offsets.push_back(static_cast<int64_t>(to.size()));
  };
  for (const int32_t at : order_) {
    if (number[at] < 0) continue;
    const State& state = states_[at];
    for (int32_t i = state.first_arc; i >= 0; i = arcs_[i].sibling) {
      const Arc& arc = arcs_[i];
      if (number[arc.dest] < 0) continue;
      out.arc_word.push_back(batch.arc_word[arc.arc]);
      out.arc_dest.push_back(number[arc.dest]);
      out.arc_graph.push_back(batch.arc_graph[arc.arc] + arc.change);
      out.arc_acoustic.push_back(batch.arc_acoustic[arc.arc]);
      copy_tids(batch.arc_tid_offsets, batch.arc_tids, arc.arc, out.arc_tids, out.arc_tid_offsets);
    }
    out.arc_offsets.push_back(static_cast<int64_t>(out.arc_word.size()));
    const int64_t from = lattice_.first_state + state.lattice;
    out.final_graph.push_back(state.final ? batch.final_graph[from] + state.final_change : kInfinity);
    out.final_acoustic.push_back(state.final ? batch.final_acoustic[from] : kInfinity);
    if (state.final)
      copy_tids(batch.final_tid_offsets, batch.final_tids, from, out.final_tids, out.final_tid_offsets);
    else
      out.final_tid_offsets.push_back(out.final_tid_offsets.back());
  }
}

}  // namespace kaldi_mpq
