// SPDX-License-Identifier: Apache-2.0
// An ARPA file, fed piece by piece (it may come out of a decompressor), as an automaton with a state per history.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "automaton.h"
#include "fault.h"

namespace kaldi_mpq {

// Words by name; ids of the sentence start, the sentence end and the unknown word (-1: unknown words cannot be read).
struct ArpaVocabulary {
  std::unordered_map<std::string, int32_t> ids;
  int32_t bos, eos, unk;
  float unk_cost;  // -ln p of the unknown word where the file has none; +inf: unknown words cannot be read then
};

// What was left out, and why.
struct ArpaSkipped {
  int64_t words = 0;                     // unigrams that the vocabulary does not have
  std::vector<std::string> first_words;  // some of them
  int64_t unknown_word = 0;              // n-grams that have such a word (unigrams too)
  int64_t misplaced_boundary = 0;        // n-grams with <s> after the first word or </s> before the last
  int64_t no_parent = 0;                 // n-grams "a b c" without "a b"
};

class ArpaReader {
 public:
  explicit ArpaReader(ArpaVocabulary vocabulary);

  void feed(std::string_view text);  // throws Fault
  Automaton finish();                // throws Fault

  const ArpaSkipped& skipped() const { return skipped_; }
  const std::vector<int64_t>& counts() const { return counts_; }  // n-grams by order, as the file says

 private:
  enum class Part { kBefore, kData, kNgrams, kEnd };

  // Open addressing: the state of the history that is one word longer than that of another state.
  class Extensions {
   public:
    int32_t find(int32_t state, int32_t word) const;  // -1: none
    bool insert(int32_t state, int32_t word, int32_t extended);

   private:
    struct Slot {
      uint64_t key;
      int32_t extended = -1;
    };
    static uint64_t key(int32_t state, int32_t word) { return uint64_t(uint32_t(state)) << 32 | uint32_t(word); }
    size_t place(uint64_t key) const;
    void grow();
    std::vector<Slot> slots_;
    size_t used_ = 0;
  };

  struct Ngram {
    int32_t source, word, dest;
    float cost;
  };

  void read_line(std::string_view line);
  void read_count(std::string_view line);
  void read_directive(std::string_view line);
  void read_ngram(std::string_view line);
  bool find_words(const std::vector<std::string_view>& fields);
  int32_t history_state();
  void add(int32_t source, float cost, float backoff_cost);
  int32_t add_state(int32_t backoff, float backoff_cost);
  int32_t longest_suffix(int32_t history, int32_t word) const;
  Automaton assemble();
  void find_known(Automaton& automaton) const;
  Fault fault(const std::string& what, const std::string& expected, std::string_view found) const;

  ArpaVocabulary vocabulary_;
  ArpaSkipped skipped_;
  std::string rest_;  // of the last piece: a line that has not ended yet
  int64_t line_ = 0;
  Part part_ = Part::kBefore;
  std::vector<int64_t> counts_;
  int64_t order_ = 0, seen_ = 0;  // of the n-grams being read
  std::vector<std::string_view> fields_;
  std::vector<int32_t> words_, last_history_;
  int32_t last_state_ = -1;
  Extensions extensions_;
  std::vector<int32_t> backoff_;  // by state; state 0 is the empty history
  std::vector<float> backoff_cost_, final_cost_;
  std::vector<Ngram> ngrams_;
};

// A decimal number, or inf; false if it is neither. Needs no locale, and is several times faster than strtod.
bool parse_number(std::string_view text, double* value);

}  // namespace kaldi_mpq
