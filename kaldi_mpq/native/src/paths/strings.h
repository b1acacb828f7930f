// SPDX-License-Identifier: Apache-2.0
// Strings of transition-ids as nodes of a tree of prefixes: equal strings have equal numbers, and appending is one
// look-up.
#pragma once

#include <cstdint>
#include <vector>

namespace kaldi_mpq {

class StringTree {
 public:
  static constexpr int32_t kEmpty = 0;

  // Forget all strings.
  void clear() {
    nodes_.assign(1, Node{0, 0, 0});
    slots_.assign(kFirstSlots, kEmpty);
  }

  int32_t length(int32_t string) const { return nodes_[string].length; }
  int64_t size() const { return static_cast<int64_t>(nodes_.size()); }

  // The string followed by tids[0], ..., tids[count - 1].
  int32_t append(int32_t string, const int32_t* tids, int64_t count) {
    for (int64_t i = 0; i < count; ++i) string = child(string, tids[i]);
    return string;
  }

  // The longest string that both begin with.
  int32_t common_prefix(int32_t a, int32_t b) const {
    a = first(a, length(b));
    b = first(b, length(a));
    while (a != b) {
      a = nodes_[a].parent;
      b = nodes_[b].parent;
    }
    return a;
  }

  // The string without its first `count` elements.
  int32_t without(int32_t string, int32_t count) {
    if (count == 0) return string;
    read(string, count, &buffer_);
    return append(kEmpty, buffer_.data(), static_cast<int64_t>(buffer_.size()));
  }

  // Kaldi's order, in which a shorter string comes before a longer one.
  bool before(int32_t a, int32_t b) const {
    if (a == b) return false;
    if (length(a) != length(b)) return length(a) < length(b);
    while (nodes_[a].parent != nodes_[b].parent) {
      a = nodes_[a].parent;
      b = nodes_[b].parent;
    }
    return nodes_[a].tid < nodes_[b].tid;
  }

  // The elements of a string, less the first `skip`.
  void read(int32_t string, int32_t skip, std::vector<int32_t>* tids) const {
    tids->resize(length(string) - skip);
    for (auto it = tids->rbegin(); it != tids->rend(); ++it) {
      *it = nodes_[string].tid;
      string = nodes_[string].parent;
    }
  }

 private:
  struct Node {
    int32_t parent, tid, length;
  };

  static constexpr size_t kFirstSlots = 1024;  // a power of 2, as all sizes of the table

  static size_t hash(int32_t parent, int32_t tid) {
    uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(parent)) << 32 | static_cast<uint32_t>(tid);
    key = (key ^ key >> 29) * 0xBF58476D1CE4E5B9u;
    return static_cast<size_t>(key ^ key >> 32);
  }

  int32_t child(int32_t parent, int32_t tid) {
    size_t slot = hash(parent, tid) & (slots_.size() - 1);
    for (; slots_[slot] != kEmpty; slot = (slot + 1) & (slots_.size() - 1)) {
      const Node& node = nodes_[slots_[slot]];
      if (node.parent == parent && node.tid == tid) return slots_[slot];
    }
    const int32_t made = static_cast<int32_t>(nodes_.size());
    nodes_.push_back({parent, tid, nodes_[parent].length + 1});
    slots_[slot] = made;
    if (nodes_.size() * 2 > slots_.size()) grow();
    return made;
  }

  void grow() {
    slots_.assign(slots_.size() * 2, kEmpty);
    for (size_t i = 1; i < nodes_.size(); ++i) {
      size_t slot = hash(nodes_[i].parent, nodes_[i].tid) & (slots_.size() - 1);
      while (slots_[slot] != kEmpty) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = static_cast<int32_t>(i);
    }
  }

  int32_t first(int32_t string, int32_t count) const {
    while (nodes_[string].length > count) string = nodes_[string].parent;
    return string;
  }

  std::vector<Node> nodes_{Node{0, 0, 0}};
  std::vector<int32_t> slots_ = std::vector<int32_t>(kFirstSlots, kEmpty);  // nodes by parent and tid, open addressing
  std::vector<int32_t> buffer_;
};

}  // namespace kaldi_mpq
