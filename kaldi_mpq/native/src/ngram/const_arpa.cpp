// SPDX-License-Identifier: Apache-2.0
#include "const_arpa.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kaldi_mpq {
namespace {

constexpr int32_t kMaxOrder = 32;  // beyond what anybody trains: more is damage
constexpr int64_t kNodeWords = 3;  // log-probability, backoff weight, number of children

int64_t read_size(Cursor& in, int64_t size, int64_t bytes_each, const char* what) {
  if (size < 0 || size > in.left() / bytes_each)
    throw Fault(std::string("bad number of ") + what, at_byte(in.offset()),
                "at most " + std::to_string(in.left() / bytes_each) + " in what is left of the file",
                std::to_string(size), "the file may be cut off");
  return size;
}

}  // namespace

ConstArpa::ConstArpa(const std::string& path) : file_(path) {
  Cursor in(file_);
  in.token(std::string("\0B", 2));
  if (in.left() > 0 && file_.data()[2] == 4)
    read_old(in);
  else
    read_new(in);
  check_header();
  check_nodes();
}

void ConstArpa::read_new(Cursor& in) {
  in.token("<ConstArpaLm> <LmInfo> ");
  bos_ = in.sized<int32_t>("the sentence start's id");
  eos_ = in.sized<int32_t>("the sentence end's id");
  unk_ = in.sized<int32_t>("the unknown word's id");
  order_ = in.sized<int32_t>("the order");
  in.token("</LmInfo> <LmStates> ");
  size_ = read_size(in, in.sized<int64_t>("the size of the states"), 4, "states");
  states_offset_ = in.offset();
  states_ = in.take(4 * size_, "states");
  in.token("</LmStates> <LmUnigram> ");
  unigrams_.resize(read_size(in, in.sized<int32_t>("the number of words"), 8, "words"));
  for (int64_t& node : unigrams_) node = in.value<int64_t>("unigrams") - 1;
  in.token("</LmUnigram> <LmOverflow> ");
  overflow_.resize(read_size(in, in.sized<int32_t>("the size of the overflow"), 8, "overflow entries"));
  for (int64_t& node : overflow_) node = in.value<int64_t>("overflow") - 1;
  in.token("</LmOverflow> </ConstArpaLm> ");
}

// The layout before tokens were introduced: every number has its size before it, and the number of states is 32 bits.
void ConstArpa::read_old(Cursor& in) {
  bos_ = in.sized<int32_t>("the sentence start's id");
  eos_ = in.sized<int32_t>("the sentence end's id");
  unk_ = in.sized<int32_t>("the unknown word's id");
  order_ = in.sized<int32_t>("the order");
  bytes_per_word_ = 5;
  owned_.resize(read_size(in, in.sized<int32_t>("the size of the states"), bytes_per_word_, "states"));
  states_offset_ = in.offset();
  for (int32_t& word : owned_) word = in.sized<int32_t>("states");
  states_ = reinterpret_cast<const char*>(owned_.data());
  size_ = static_cast<int64_t>(owned_.size());
  unigrams_.resize(read_size(in, in.sized<int32_t>("the number of words"), 9, "words"));
  for (int64_t& node : unigrams_) node = in.sized<int64_t>("unigrams") - 1;
  overflow_.resize(read_size(in, in.sized<int32_t>("the size of the overflow"), 9, "overflow entries"));
  for (int64_t& node : overflow_) node = in.sized<int64_t>("overflow") - 1;
}

void ConstArpa::check_header() const {
  const std::string range = "1 to " + std::to_string(num_words() - 1);
  if (order_ < 1 || order_ > kMaxOrder)
    throw Fault("bad order", "", "1 to " + std::to_string(kMaxOrder), std::to_string(order_));
  if (bos_ < 1 || bos_ >= num_words()) throw Fault("bad id of the sentence start", "", range, std::to_string(bos_));
  if (eos_ < 1 || eos_ >= num_words()) throw Fault("bad id of the sentence end", "", range, std::to_string(eos_));
  if (unk_ != -1 && (unk_ < 1 || unk_ >= num_words()))
    throw Fault("bad id of the unknown word", "", range + " or -1", std::to_string(unk_));
}

void ConstArpa::bad_node(const char* what, int64_t index, const std::string& expected, int64_t found) const {
  throw Fault(what, at_byte(states_offset_ + bytes_per_word_ * index), expected, std::to_string(found));
}

// Nodes lie one after the other: where one ends the next begins, and every pointer leads to a beginning.
void ConstArpa::check_nodes() {
  std::vector<bool> is_node(size_, false);
  for (int64_t node = 0; node < size_; node += kNodeWords + 2 * static_cast<int64_t>(num_children(node))) {
    const int64_t room = (size_ - node - kNodeWords) / 2;
    if (size_ - node < kNodeWords) bad_node("a node is cut off", node, "3 words", size_ - node);
    if (num_children(node) < 0 || num_children(node) > room)
      bad_node("bad number of children", node + 2, "0 to " + std::to_string(room), num_children(node));
    is_node[node] = true;
    ++num_nodes_;
  }
  for (const std::vector<int64_t>* table : {&unigrams_, &overflow_})
    for (const int64_t node : *table)
      if (node < -1 || node >= size_ || (node == -1 && table == &overflow_) || (node >= 0 && !is_node[node]))
        throw Fault(table == &unigrams_ ? "a unigram points to no node" : "the overflow points to no node", "",
                    "the index of a node below " + std::to_string(size_), std::to_string(node));
  for (int64_t node = 0; node < size_; node += kNodeWords + 2 * static_cast<int64_t>(num_children(node)))
    check_children(node, is_node);
}

void ConstArpa::check_children(int64_t node, const std::vector<bool>& is_node) const {
  if (std::isnan(float_at(node)) || std::isnan(float_at(node + 1)))
    bad_node("not a number", node, "a log-probability and a backoff weight", word_at(node));
  const int64_t end = node + kNodeWords + 2 * static_cast<int64_t>(num_children(node));
  int64_t before = -1;
  for (int64_t at = node + kNodeWords; at < end; at += 2) {
    const int32_t word = word_at(at), info = word_at(at + 1);
    if (word <= before) bad_node("children are not sorted", at, "a word above " + std::to_string(before), word);
    before = word;
    if (info % 2 == 0) {
      if (std::isnan(float_at(at + 1))) bad_node("not a number", at + 1, "a log-probability", info);
      continue;
    }
    const int64_t child = target(node, info);
    if (child < 0 || child >= size_ || !is_node[child]) bad_node("a child points to no node", at + 1, "a node", child);
  }
}

// Odd `info`: half of it is the way to the child, or, at most 0, minus the child's place in the overflow.
int64_t ConstArpa::target(int64_t node, int32_t info) const {
  const int64_t half = info / 2;
  if (half > 0) return node + half;
  return -half < static_cast<int64_t>(overflow_.size()) ? overflow_[-half] : -1;
}

ConstArpa::Child ConstArpa::child(int64_t node, int32_t word) const {
  int64_t low = 0, high = num_children(node);
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (word_at(node + kNodeWords + 2 * middle) < word)
      low = middle + 1;
    else
      high = middle;
  }
  const int64_t at = node + kNodeWords + 2 * low;
  if (low == num_children(node) || word_at(at) != word) return {false, -1, 0.0f};
  const int32_t info = word_at(at + 1);
  if (info % 2 == 0) return {true, -1, float_at(at + 1)};
  const int64_t next = target(node, info);
  return {true, next, float_at(next)};
}

ConstArpa::State ConstArpa::initial() const {
  State state(order_ - 1, -1);
  if (order_ > 1) state[0] = unigram(bos_);
  return state;
}

// The longest history with children is looked up, then the shorter ones, each that exists with its backoff weight. The
// tree holds every prefix of what it holds, so the nodes of all histories follow from those of one word before.
double ConstArpa::logp(const State& state, int32_t word) const {
  double backoff = 0.0;
  bool counts = false;
  for (int64_t k = static_cast<int64_t>(state.size()); k > 0; --k) {
    const int64_t node = state[k - 1];
    if (node < 0) continue;
    counts = counts || num_children(node) > 0;
    if (!counts) continue;
    const Child found = child(node, word);
    if (found.found) return backoff + found.logp;
    backoff += float_at(node + 1);
  }
  const int64_t node = unigram(word);
  return node < 0 ? -std::numeric_limits<double>::infinity() : backoff + float_at(node);
}

double ConstArpa::advance(State& state, int32_t word) const {
  const int32_t read_as = unigram(word) < 0 && unk_ != -1 ? unk_ : word;
  const double cost = -logp(state, read_as);
  // The word itself, not what it was read as, goes into the history, as in Kaldi: after an unknown word it is empty.
  for (int64_t k = static_cast<int64_t>(state.size()); k > 1; --k)
    state[k - 1] = state[k - 2] < 0 ? -1 : child(state[k - 2], word).node;
  if (!state.empty()) state[0] = unigram(word);
  return cost;
}

double ConstArpa::finish_cost(const State& state) const {
  return -logp(state, unigram(eos_) < 0 && unk_ != -1 ? unk_ : eos_);
}

}  // namespace kaldi_mpq
