// SPDX-License-Identifier: Apache-2.0
// What is wrong with a language model file, and where: becomes Python's OldLmError, which adds the file's name.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

namespace kaldi_mpq {

struct Fault : std::exception {
  Fault(std::string what_, std::string place_, std::string expected_ = "", std::string found_ = "",
        std::string hint_ = "")
      : fault(std::move(what_)),
        place(std::move(place_)),
        expected(std::move(expected_)),
        found(std::move(found_)),
        hint(std::move(hint_)) {}

  const char* what() const noexcept override { return fault.c_str(); }

  std::string fault, place, expected, found, hint;  // empty: nothing to say
};

inline std::string at_byte(int64_t offset) { return ":byte " + std::to_string(offset); }
inline std::string at_line(int64_t number) { return ":" + std::to_string(number); }

}  // namespace kaldi_mpq
