// SPDX-License-Identifier: Apache-2.0
#include "confidence.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include "topology.h"

namespace kaldi_mpq {
namespace {

struct Span {
  int32_t begin, end;
  double posterior;
};

class Confidences {
 public:
  Confidences(const BatchView& batch, const PathsView& paths, const double* posterior)
      : batch_(batch), paths_(paths), posterior_(posterior) {}

  WordConfidences run() {
    for (int64_t i = 0; i < batch_.size; ++i) {
      const int64_t begin = paths_.lattice_offsets[i], end = paths_.lattice_offsets[i + 1];
      if (begin == end) continue;
      const LatticeView lattice = batch_[i];
      check(lattice, begin, end);
      collect(lattice, begin, end);
      for (int64_t path = begin; path < end; ++path) add_path(path);
    }
    return std::move(out_);
  }

 private:
  int32_t num_frames(int64_t arc) const {
    return static_cast<int32_t>(batch_.arc_tid_offsets[arc + 1] - batch_.arc_tid_offsets[arc]);
  }

  void check(const LatticeView& lattice, int64_t begin, int64_t end) const {
    const int64_t first = lattice.arc_begin[0], last = lattice.arc_begin[lattice.num_states];
    for (int64_t i = paths_.arc_offsets[begin]; i < paths_.arc_offsets[end]; ++i) {
      const int64_t arc = paths_.arcs[i];
      if (arc >= first && arc < last) continue;
      throw std::invalid_argument("arc " + std::to_string(arc) + " of a path is not one of its lattice");
    }
  }

  // Find when the arcs are whose words are on the paths. Where a state's paths from the start have different numbers of
  // frames, which no decoder makes, the largest counts.
  void collect(const LatticeView& lattice, int64_t begin, int64_t end) {
    spans_.clear();
    for (int64_t i = paths_.arc_offsets[begin]; i < paths_.arc_offsets[end]; ++i) {
      if (const int32_t word = batch_.arc_word[paths_.arcs[i]]; word != 0) spans_[word];
    }
    topology_.sort(lattice);
    frame_.assign(lattice.num_states, 0);
    for (const int32_t state : topology_.order()) {
      for (int64_t arc = lattice.arc_begin[state]; arc < lattice.arc_begin[state + 1]; ++arc) {
        const int32_t dest = lattice.arc_dest[arc];
        if (!lattice.has_arc(arc) || !topology_.has(dest)) continue;
        const int32_t from = frame_[state], to = from + num_frames(arc);
        frame_[dest] = std::max(frame_[dest], to);
        if (lattice.arc_word[arc] == 0) continue;
        const auto found = spans_.find(lattice.arc_word[arc]);
        if (found != spans_.end()) found->second.push_back({from, std::max(to, from + 1), posterior_[arc]});
      }
    }
  }

  void add_path(int64_t path) {
    int32_t frame = 0;
    for (int64_t i = paths_.arc_offsets[path]; i < paths_.arc_offsets[path + 1]; ++i) {
      const int64_t arc = paths_.arcs[i];
      const int32_t end = frame + num_frames(arc);
      if (const int32_t word = batch_.arc_word[arc]; word != 0) {
        out_.begin_frame.push_back(frame);
        out_.end_frame.push_back(end);
        out_.confidence.push_back(highest(spans_[word], frame, std::max(end, frame + 1)));
      }
      frame = end;
    }
  }

  // The largest sum of posteriors at one of the frames.
  double highest(const std::vector<Span>& spans, int32_t begin, int32_t end) {
    change_.assign(end - begin + 1, 0.0);
    for (const Span& span : spans) {
      if (span.end <= begin || span.begin >= end) continue;
      change_[std::max(span.begin, begin) - begin] += span.posterior;
      change_[std::min(span.end, end) - begin] -= span.posterior;
    }
    double sum = 0.0, best = 0.0;
    for (const double change : change_) best = std::max(best, sum += change);
    return std::min(best, 1.0);
  }

  const BatchView& batch_;
  const PathsView& paths_;
  const double* posterior_;
  Topology topology_;
  std::vector<int32_t> frame_;                          // of each state
  std::unordered_map<int32_t, std::vector<Span>> spans_;  // of each word on the paths
  std::vector<double> change_;
  WordConfidences out_;
};

}  // namespace

WordConfidences word_confidences(const BatchView& batch, const PathsView& paths, const double* arc_posterior) {
  return Confidences(batch, paths, arc_posterior).run();
}

}  // namespace kaldi_mpq
