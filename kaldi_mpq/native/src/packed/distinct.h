// SPDX-License-Identifier: Apache-2.0
// The distinct ones of some numbers, in order, and which of them each is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace kaldi_mpq::packed {

struct Distinct {
  Distinct(const int64_t* numbers, int64_t n) : values(numbers, numbers + n), which(n) {
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    for (int64_t i = 0; i < n; ++i)
      which[i] = std::lower_bound(values.begin(), values.end(), numbers[i]) - values.begin();
  }
  int64_t size() const { return static_cast<int64_t>(values.size()); }
  std::vector<int64_t> values, which;
};

}  // namespace kaldi_mpq::packed
