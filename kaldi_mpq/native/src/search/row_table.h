// SPDX-License-Identifier: Apache-2.0
// Small numbers for rows of integers: equal rows of one owner have one number. What an owner holds is given back at once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace kaldi_mpq {

class RowTable {
 public:
  explicit RowTable(int64_t width) : width_(width) {}

  int64_t width() const { return width_; }
  // Numbers that were ever given out are below this.
  int64_t capacity() const { return static_cast<int64_t>(rows_.size()) / std::max<int64_t>(width_, 1); }
  int64_t size() const { return capacity() - static_cast<int64_t>(free_.size()); }

  // The number of `row` among the rows of `owner`; `is_new` says whether it was given just now.
  int32_t intern(int32_t owner, const int64_t* row, bool& is_new);
  // The number of `row` among the rows of `owner`, or -1.
  int32_t find(int32_t owner, const int64_t* row) const;
  const int64_t* row(int32_t number) const { return rows_.data() + number * width_; }
  // Forget an owner's rows; their numbers are given out again. Returns them.
  std::vector<int32_t> release(int32_t owner);

 private:
  using Numbers = std::unordered_multimap<uint64_t, int32_t>;  // by the row's hash

  int32_t find(const Numbers& numbers, uint64_t hash, const int64_t* row) const;

  int64_t width_;
  std::vector<int64_t> rows_;
  std::vector<int32_t> free_;
  std::unordered_map<int32_t, Numbers> owners_;
};

}  // namespace kaldi_mpq
