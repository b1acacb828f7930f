// SPDX-License-Identifier: Apache-2.0
#include "arpa.h"

#include <algorithm>
#include <cmath>

namespace kaldi_mpq {
namespace {

constexpr double kLn10 = 2.302585092994045684;
constexpr size_t kWordsToName = 5;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}

void split(std::string_view text, std::vector<std::string_view>* fields) {
  fields->clear();
  for (size_t at = 0; at < text.size();) {
    while (at < text.size() && is_space(text[at])) ++at;
    const size_t begin = at;
    while (at < text.size() && !is_space(text[at])) ++at;
    if (at > begin) fields->push_back(text.substr(begin, at - begin));
  }
}

std::string section(int64_t order) { return "\\" + std::to_string(order) + "-grams:"; }

}  // namespace

size_t ArpaReader::Extensions::place(uint64_t key) const {
  size_t at = (key * 0x9e3779b97f4a7c15u >> 20) & (slots_.size() - 1);
  while (slots_[at].extended >= 0 && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
  return at;
}

int32_t ArpaReader::Extensions::find(int32_t state, int32_t word) const {
  return slots_.empty() ? -1 : slots_[place(key(state, word))].extended;
}

bool ArpaReader::Extensions::insert(int32_t state, int32_t word, int32_t extended) {
  if (2 * (used_ + 1) > slots_.size()) grow();
  Slot& slot = slots_[place(key(state, word))];
  if (slot.extended >= 0) return false;
  slot = {key(state, word), extended};
  ++used_;
  return true;
}

void ArpaReader::Extensions::grow() {
  std::vector<Slot> old(std::max<size_t>(1024, 2 * slots_.size()));
  old.swap(slots_);
  for (const Slot& slot : old)
    if (slot.extended >= 0) slots_[place(slot.key)] = slot;
}

ArpaReader::ArpaReader(ArpaVocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)), backoff_{-1}, backoff_cost_{0.0f}, final_cost_{kInfinity} {}

Fault ArpaReader::fault(const std::string& what, const std::string& expected, std::string_view found) const {
  return Fault(what, at_line(line_), expected, "'" + std::string(found.substr(0, 80)) + "'");
}

void ArpaReader::feed(std::string_view text) {
  while (true) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    ++line_;
    if (rest_.empty()) {
      read_line(trim(text.substr(0, end)));
    } else {
      rest_.append(text.substr(0, end));
      read_line(trim(rest_));
      rest_.clear();
    }
    text.remove_prefix(end + 1);
  }
  rest_.append(text);
}

void ArpaReader::read_line(std::string_view line) {
  if (line.empty() || part_ == Part::kEnd) return;
  if (part_ == Part::kBefore) {
    if (line == "\\data\\") part_ = Part::kData;
  } else if (line.front() == '\\' && (line == "\\end\\" || line.substr(line.size() - 1) == ":")) {
    read_directive(line);
  } else if (part_ == Part::kData) {
    read_count(line);
  } else {
    read_ngram(line);
  }
}

void ArpaReader::read_count(std::string_view line) {
  const size_t equals = line.find('=');
  double order = 0, count = -1;
  if (line.substr(0, 6) != "ngram " || equals == std::string_view::npos ||
      !parse_number(trim(line.substr(6, equals - 6)), &order) || !parse_number(trim(line.substr(equals + 1)), &count) ||
      order != static_cast<double>(counts_.size() + 1) || !(count >= 0 && count < 1e15 && count == std::floor(count)))
    throw fault("bad n-gram count", "'ngram " + std::to_string(counts_.size() + 1) + "=COUNT'", line);
  counts_.push_back(static_cast<int64_t>(count));
}

void ArpaReader::read_directive(std::string_view line) {
  const int64_t orders = static_cast<int64_t>(counts_.size());
  if (orders == 0) throw fault("no n-gram counts in \\data\\", "'ngram 1=COUNT'", line);
  if (order_ > 0 && seen_ != counts_[order_ - 1])
    throw Fault("wrong number of " + std::to_string(order_) + "-grams", at_line(line_),
                std::to_string(counts_[order_ - 1]) + " as \\data\\ says", std::to_string(seen_));
  const std::string expected = order_ < orders ? section(order_ + 1) : "\\end\\";
  if (line != expected) throw fault("wrong section", expected, line);
  part_ = order_ < orders ? Part::kNgrams : Part::kEnd;
  ++order_;
  seen_ = 0;
  last_state_ = -1;
}

void ArpaReader::read_ngram(std::string_view line) {
  split(line, &fields_);
  const size_t columns = fields_.size();
  const size_t fewest = order_ + 1;
  if (columns != fewest && columns != fewest + 1)
    throw fault("bad line", "a log-probability, " + std::to_string(order_) + " word(s) and possibly a backoff weight",
                line);
  ++seen_;
  double logp = 0, backoff = 0;
  // Some tools write a probability of 1 as a little more than 1.
  if (!parse_number(fields_[0], &logp) || !(logp < 0.01))
    throw fault("bad log-probability", "a number up to 0", fields_[0]);
  if (columns > fewest && (!parse_number(fields_.back(), &backoff) || backoff == kInfinity))
    throw fault("bad backoff weight", "a number", fields_.back());
  if (!find_words(fields_)) return;
  const int32_t source = history_state();
  if (source < 0) {
    ++skipped_.no_parent;
    return;
  }
  add(source, static_cast<float>(-logp * kLn10), static_cast<float>(-backoff * kLn10));
}

// Set words_ to the ids of the n-gram's words. False if the n-gram is to be left out.
bool ArpaReader::find_words(const std::vector<std::string_view>& fields) {
  words_.clear();
  std::string name;
  for (int64_t i = 1; i <= order_; ++i) {
    name.assign(fields[i]);
    const auto found = vocabulary_.ids.find(name);
    if (found == vocabulary_.ids.end()) {
      ++skipped_.unknown_word;
      if (order_ == 1) {
        ++skipped_.words;
        if (skipped_.first_words.size() < kWordsToName) skipped_.first_words.push_back(name);
      }
      return false;
    }
    if (found->second == 0) throw fault("the epsilon symbol among the words", "words", name);
    words_.push_back(found->second);
  }
  for (int64_t i = 0; i < order_; ++i) {
    const bool misplaced = (i > 0 && words_[i] == vocabulary_.bos) || (i + 1 < order_ && words_[i] == vocabulary_.eos);
    if (!misplaced) continue;
    ++skipped_.misplaced_boundary;
    return false;
  }
  return true;
}

// The state of all words but the last; -1 if there is none.
int32_t ArpaReader::history_state() {
  const bool same = last_state_ >= 0 && std::equal(last_history_.begin(), last_history_.end(), words_.begin());
  if (same) return last_state_;  // n-grams of one history mostly follow each other
  int32_t state = 0;
  for (int64_t i = 0; i + 1 < order_ && state >= 0; ++i) state = extensions_.find(state, words_[i]);
  last_history_.assign(words_.begin(), words_.end() - 1);
  last_state_ = state;
  return state;
}

void ArpaReader::add(int32_t source, float cost, float backoff_cost) {
  const int32_t word = words_.back();
  const bool highest = order_ == static_cast<int64_t>(counts_.size());
  if (word == vocabulary_.eos) {
    if (final_cost_[source] < kInfinity) throw fault("an n-gram is there twice", "each n-gram once", fields_[order_]);
    final_cost_[source] = cost;
  } else if (highest && word != vocabulary_.bos) {
    ngrams_.push_back({source, word, longest_suffix(backoff_[source], word), cost});
  } else {
    const int32_t state = static_cast<int32_t>(backoff_.size());
    if (!extensions_.insert(source, word, state))
      throw fault("an n-gram is there twice", "each n-gram once", fields_[order_]);
    // The backoff state of "a b" is "b" if there is such a history, else a shorter one.
    backoff_.push_back(longest_suffix(backoff_[source], word));
    backoff_cost_.push_back(backoff_cost);
    final_cost_.push_back(kInfinity);
    if (word != vocabulary_.bos) ngrams_.push_back({source, word, state, cost});
  }
}

// The state of the longest suffix of (history, word).
int32_t ArpaReader::longest_suffix(int32_t history, int32_t word) const {
  for (; history >= 0; history = backoff_[history]) {
    const int32_t state = extensions_.find(history, word);
    if (state >= 0) return state;
  }
  return 0;
}

Automaton ArpaReader::finish() {
  if (!rest_.empty()) {
    ++line_;
    read_line(trim(rest_));
    rest_.clear();
  }
  if (part_ != Part::kEnd)
    throw Fault(part_ == Part::kBefore ? "not an ARPA file" : "truncated", at_line(line_),
                part_ == Part::kBefore ? "\\data\\" : "\\end\\", "the end of the file");
  if (std::all_of(final_cost_.begin(), final_cost_.end(), [](float cost) { return cost == kInfinity; }))
    throw Fault("no sentence can end", "", "n-grams that end in the sentence end", "none");
  const bool has_unk = std::any_of(ngrams_.begin(), ngrams_.end(), [this](const Ngram& ngram) {
    return ngram.source == 0 && ngram.word == vocabulary_.unk;
  });
  if (!has_unk && vocabulary_.unk >= 0 && vocabulary_.unk_cost < kInfinity)
    ngrams_.push_back({0, vocabulary_.unk, 0, vocabulary_.unk_cost});
  Automaton automaton = assemble();
  automaton.finish();
  if (automaton.ambiguous_states > 0) throw Fault("an n-gram is there twice", "", "each n-gram once");
  find_known(automaton);
  return automaton;
}

// Which words have a unigram, and what the others are read as.
void ArpaReader::find_known(Automaton& automaton) const {
  for (const auto& entry : vocabulary_.ids) {
    const auto size = static_cast<size_t>(entry.second) + 1;
    if (automaton.known.size() < size) automaton.known.resize(size);
  }
  for (int64_t arc = automaton.offsets[0]; arc < automaton.offsets[1]; ++arc)
    automaton.known[automaton.labels[arc]] = 1;
  if (vocabulary_.unk >= 0 && automaton.known[vocabulary_.unk]) automaton.unk = vocabulary_.unk;
}

// Arcs by source: a counting sort. The backoff arc comes first, its label is 0.
Automaton ArpaReader::assemble() {
  Automaton automaton;
  const int64_t states = static_cast<int64_t>(backoff_.size());
  automaton.offsets.assign(states + 1, 0);
  for (int64_t state = 1; state < states; ++state) ++automaton.offsets[state + 1];  // its backoff arc
  for (const Ngram& ngram : ngrams_) ++automaton.offsets[ngram.source + 1];
  for (int64_t state = 0; state < states; ++state) automaton.offsets[state + 1] += automaton.offsets[state];
  std::vector<int64_t> next(automaton.offsets.begin(), automaton.offsets.end() - 1);
  automaton.labels.resize(automaton.offsets.back());
  automaton.steps.resize(automaton.offsets.back());
  for (int64_t state = 1; state < states; ++state)
    automaton.steps[next[state]++] = {backoff_cost_[state], backoff_[state]};
  for (const Ngram& ngram : ngrams_) {
    const int64_t at = next[ngram.source]++;
    automaton.labels[at] = ngram.word;
    automaton.steps[at] = {ngram.cost, ngram.dest};
  }
  automaton.final_cost = std::move(final_cost_);
  automaton.start = std::max(0, extensions_.find(0, vocabulary_.bos));
  return automaton;
}

}  // namespace kaldi_mpq
