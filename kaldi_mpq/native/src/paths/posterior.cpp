// SPDX-License-Identifier: Apache-2.0
// The backward pass turns costs into the probabilities p(exit | state) of a Markov chain whose paths have the posterior
// probabilities of the lattice's paths; the forward pass then only multiplies and adds probabilities, no logarithms:
//   beta(s) = sum over exits e of exp(-cost(e)) beta(dest(e))        p(e | s) = exp(-cost(e)) beta(dest(e)) / beta(s)
//   gamma(start) = 1      posterior(e) = gamma(s) p(e | s)           gamma(s) = sum of the posteriors of arcs into s
#include "posterior.h"

#include <algorithm>
#include <cmath>

namespace kaldi_mpq {
namespace {

class ForwardBackward {
 public:
  ForwardBackward(const BatchView& batch, const Scales& scales) : batch_(batch), scales_(scales) {
    out_.arc.assign(batch.num_arcs(), 0.0);
    out_.final.assign(batch.num_states(), 0.0);
    out_.total_logp.assign(batch.size, -kInfinity);
  }

  Posteriors run() {
    for (int64_t i = 0; i < batch_.size; ++i) {
      const LatticeView lattice = batch_[i];
      if (topology_.sort(lattice) != Fault::kNone) continue;
      log_beta_.assign(lattice.num_states, -kInfinity);
      const std::vector<int32_t>& order = topology_.order();
      for (auto state = order.rbegin(); state != order.rend(); ++state) backward(lattice, *state);
      gamma_.assign(lattice.num_states, 0.0);
      gamma_[lattice.start] = 1.0;
      for (const int32_t state : order) forward(lattice, state);
      out_.total_logp[i] = log_beta_[lattice.start];
    }
    return std::move(out_);
  }

 private:
  bool present(const LatticeView& lattice, int64_t arc) const {
    return lattice.has_arc(arc) && topology_.has(lattice.arc_dest[arc]);
  }

  // Leaves p(exit | state) where the posteriors will be.
  void backward(const LatticeView& lattice, int32_t state) {
    const int64_t begin = lattice.arc_begin[state], end = lattice.arc_begin[state + 1];
    double& p_final = out_.final[lattice.first_state + state];
    p_final = -lattice.final_cost(state, scales_);
    double highest = p_final;
    for (int64_t arc = begin; arc < end; ++arc) {
      if (!present(lattice, arc)) continue;
      out_.arc[arc] = log_beta_[lattice.arc_dest[arc]] - lattice.arc_cost(arc, scales_);
      highest = std::max(highest, out_.arc[arc]);
    }
    double sum = p_final = std::exp(p_final - highest);
    for (int64_t arc = begin; arc < end; ++arc) {
      if (present(lattice, arc)) sum += out_.arc[arc] = std::exp(out_.arc[arc] - highest);
    }
    log_beta_[state] = highest + std::log(sum);
    p_final /= sum;
    for (int64_t arc = begin; arc < end; ++arc) out_.arc[arc] /= sum;
  }

  void forward(const LatticeView& lattice, int32_t state) {
    out_.final[lattice.first_state + state] *= gamma_[state];
    for (int64_t arc = lattice.arc_begin[state]; arc < lattice.arc_begin[state + 1]; ++arc) {
      if (!present(lattice, arc)) continue;
      out_.arc[arc] *= gamma_[state];
      gamma_[lattice.arc_dest[arc]] += out_.arc[arc];
    }
  }

  const BatchView& batch_;
  const Scales scales_;
  Topology topology_;
  std::vector<double> log_beta_, gamma_;
  Posteriors out_;
};

}  // namespace

Posteriors forward_backward(const BatchView& batch, const Scales& scales) {
  return ForwardBackward(batch, scales).run();
}

Kept within_beam(const BatchView& batch, double beam, const Scales& scales) {
  Kept kept{std::vector<uint8_t>(batch.num_arcs(), 0), std::vector<uint8_t>(batch.num_states(), 0)};
  Topology topology;
  CostToGo to_go;
  std::vector<double> so_far;
  for (int64_t i = 0; i < batch.size; ++i) {
    const LatticeView lattice = batch[i];
    if (topology.sort(lattice) != Fault::kNone) continue;
    to_go.compute(lattice, topology, scales);
    so_far.assign(lattice.num_states, kInfinity);
    so_far[lattice.start] = 0.0;
    const double best = to_go[lattice.start];
    double magnitude = 1.0;
    for (const int32_t state : topology.order()) magnitude = std::max(magnitude, std::abs(to_go[state]));
    const double cutoff = best + beam + 1e-13 * magnitude;  // rounding must not lose the best path
    for (const int32_t state : topology.order()) {
      kept.final[lattice.first_state + state] = so_far[state] + lattice.final_cost(state, scales) <= cutoff;
      for (int64_t arc = lattice.arc_begin[state]; arc < lattice.arc_begin[state + 1]; ++arc) {
        const int32_t dest = lattice.arc_dest[arc];
        if (!lattice.has_arc(arc) || !topology.has(dest)) continue;
        const double cost = so_far[state] + lattice.arc_cost(arc, scales);
        so_far[dest] = std::min(so_far[dest], cost);
        kept.arc[arc] = cost + to_go[dest] <= cutoff;
      }
    }
  }
  return kept;
}

}  // namespace kaldi_mpq
