// SPDX-License-Identifier: Apache-2.0
#include "number.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

namespace kaldi_mpq {
namespace {

constexpr int kDigits = 6;
constexpr size_t kLongestNumber = 40;

#ifdef __cpp_lib_to_chars

bool parse_number(std::string_view text, double* value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *value);
  return stop == end && error == std::errc();
}

void append_finite(float value, std::string* out) {
  char text[kLongestNumber];
  const auto done = std::to_chars(text, text + sizeof text, value, std::chars_format::general, kDigits);
  out->append(text, done.ptr);
}

void append_finite(double value, std::string* out) {
  char text[kLongestNumber];
  out->append(text, std::to_chars(text, text + sizeof text, value).ptr);
}

#else  // libstdc++ before 11: slower, and right where LC_NUMERIC is "C", as Python leaves it

bool parse_number(std::string_view text, double* value) {
  if (text.empty() || text[0] <= ' ' || text.find_first_of("xX") != std::string_view::npos) return false;
  const std::string terminated(text);
  char* stop = nullptr;
  errno = 0;
  *value = std::strtod(terminated.c_str(), &stop);
  return stop == terminated.c_str() + text.size() && errno != ERANGE;
}

void append_digits(double value, int digits, std::string* out) {
  char text[kLongestNumber];
  out->append(text, std::snprintf(text, sizeof text, "%.*g", digits, value));
}

void append_finite(float value, std::string* out) { append_digits(value, kDigits, out); }
void append_finite(double value, std::string* out) { append_digits(value, 17, out); }

#endif

template <typename Real>
void append(Real value, std::string* out) {
  if (std::isfinite(value)) append_finite(value, out);
  else if (std::isnan(value)) *out += "BadNumber";
  else *out += value > 0 ? "Infinity" : "-Infinity";
}

std::string_view without_plus(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  return text;
}

}  // namespace

bool parse_integer(std::string_view text, int32_t* value) {
  text = without_plus(text);
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *value);
  return stop == end && error == std::errc();
}

bool parse_cost(std::string_view text, double* value) {
  if (text != "BadNumber") return parse_number(without_plus(text), value);
  *value = std::numeric_limits<double>::quiet_NaN();
  return true;
}

void append_integer(int64_t value, std::string* out) {
  char text[kLongestNumber];
  out->append(text, std::to_chars(text, text + sizeof text, value).ptr);
}

void append_cost(float value, std::string* out) { append(value, out); }
void append_cost(double value, std::string* out) { append(value, out); }

}  // namespace kaldi_mpq
