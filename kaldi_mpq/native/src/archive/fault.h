// SPDX-License-Identifier: Apache-2.0
// What is wrong with a lattice or an archive: becomes Python's LatticeError, field by field.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace kaldi_mpq {

// Where it is found only the fault is known; whoever catches it and knows the file and the key fills in `where`.
struct Fault : std::exception {
  explicit Fault(std::string what_is_wrong, int64_t at = -1) : message(std::move(what_is_wrong)), offset(at) {}

  Fault& expect(std::string text) { return set(&Fault::expected, std::move(text)); }
  Fault& find(std::string text) { return set(&Fault::found, std::move(text)); }
  Fault& find(int64_t number) { return find(std::to_string(number)); }
  Fault& advise(std::string text) { return set(&Fault::hint, std::move(text)); }

  const char* what() const noexcept override { return message.c_str(); }

  std::string message;
  int64_t offset;                            // of the faulty bytes in the archive, -1: see who catches
  int64_t line = 0;                          // the same as a line, 0: not in text
  std::string where, expected, found, hint;  // empty: nothing to say

 private:
  Fault& set(std::string Fault::* field, std::string text) {
    this->*field = std::move(text);
    return *this;
  }
};

// For messages: control characters as \x00. Bytes that are not UTF-8 stay; they are escaped on their way to Python.
inline std::string printable(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = byte < ' ' || byte == 0x7f;
    out += control ? std::string("\\x") + kHex[byte >> 4] + kHex[byte & 15] : std::string(1, c);
  }
  return out;
}

}  // namespace kaldi_mpq
