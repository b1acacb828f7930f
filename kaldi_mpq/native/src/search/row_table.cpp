// SPDX-License-Identifier: Apache-2.0
#include "row_table.h"

#include <algorithm>

namespace kaldi_mpq {
namespace {

uint64_t hash_of(const int64_t* row, int64_t width) {
  uint64_t hash = 0x9e3779b97f4a7c15u;
  for (int64_t i = 0; i < width; ++i) {
    hash ^= static_cast<uint64_t>(row[i]);
    hash *= 0xff51afd7ed558ccdu;  // a mixing step of MurmurHash3
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace

int32_t RowTable::find(int32_t owner, const int64_t* row) const {
  const auto numbers = owners_.find(owner);
  return numbers == owners_.end() ? -1 : find(numbers->second, hash_of(row, width_), row);
}

int32_t RowTable::find(const Numbers& numbers, uint64_t hash, const int64_t* row) const {
  const auto [first, last] = numbers.equal_range(hash);
  for (auto at = first; at != last; ++at)
    if (std::equal(row, row + width_, this->row(at->second))) return at->second;
  return -1;
}

int32_t RowTable::intern(int32_t owner, const int64_t* row, bool& is_new) {
  Numbers& numbers = owners_[owner];
  const uint64_t hash = hash_of(row, width_);
  const int32_t found = find(numbers, hash, row);
  is_new = found < 0;
  if (!is_new) return found;
  int32_t number;
  if (free_.empty()) {
    number = static_cast<int32_t>(capacity());
    rows_.insert(rows_.end(), row, row + width_);
  } else {
    number = free_.back();
    free_.pop_back();
    std::copy(row, row + width_, rows_.begin() + number * width_);
  }
  numbers.emplace(hash, number);
  return number;
}

std::vector<int32_t> RowTable::release(int32_t owner) {
  std::vector<int32_t> released;
  const auto found = owners_.find(owner);
  if (found == owners_.end()) return released;
  for (const auto& [hash, number] : found->second) released.push_back(number);
  free_.insert(free_.end(), released.begin(), released.end());
  owners_.erase(found);
  return released;
}

}  // namespace kaldi_mpq
