// SPDX-License-Identifier: Apache-2.0
// Kaldi's ConstArpaLm (G.carpa): an ARPA model as a tree of histories in one array, used where it lies in the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "binary_file.h"

namespace kaldi_mpq {

class ConstArpa {
 public:
  // Reads both layouts and checks every node. Throws Fault.
  explicit ConstArpa(const std::string& path);

  int32_t bos() const { return bos_; }
  int32_t eos() const { return eos_; }
  int32_t unk() const { return unk_; }
  int32_t order() const { return order_; }
  int64_t num_words() const { return static_cast<int64_t>(unigrams_.size()); }
  int64_t num_nodes() const { return num_nodes_; }
  bool has_node(int64_t node) const { return node >= -1 && node < size_; }  // as far as it can be walked safely

  // The node of the last k words, for k = 1 to order - 1, at [k - 1]; -1: there is none.
  using State = std::vector<int64_t>;
  State initial() const;
  double advance(State& state, int32_t word) const;
  double finish_cost(const State& state) const;

 private:
  struct Child {
    bool found;
    int64_t node;  // -1: a leaf
    float logp;
  };

  void read_new(Cursor& in);
  void read_old(Cursor& in);
  void check_header() const;
  void check_nodes();
  void check_children(int64_t node, const std::vector<bool>& is_node) const;
  [[noreturn]] void bad_node(const char* what, int64_t index, const std::string& expected, int64_t found) const;

  int32_t word_at(int64_t index) const { return load<int32_t>(states_ + 4 * index); }
  float float_at(int64_t index) const { return load<float>(states_ + 4 * index); }
  int32_t num_children(int64_t node) const { return word_at(node + 2); }
  int64_t unigram(int32_t word) const { return word < num_words() ? unigrams_[word] : -1; }
  int64_t target(int64_t node, int32_t info) const;
  Child child(int64_t node, int32_t word) const;
  double logp(const State& state, int32_t word) const;

  BinaryFile file_;
  int32_t bos_ = 0, eos_ = 0, unk_ = -1, order_ = 0;
  const char* states_ = nullptr;      // size_ words of 4 bytes, at any address
  int64_t size_ = 0;
  int64_t states_offset_ = 0;         // in the file; the old layout has 5 bytes per word
  int64_t bytes_per_word_ = 4;
  std::vector<int32_t> owned_;        // the old layout's words
  std::vector<int64_t> unigrams_;     // node of each word, -1: none
  std::vector<int64_t> overflow_;     // nodes too far away for an offset
  int64_t num_nodes_ = 0;
};

}  // namespace kaldi_mpq
