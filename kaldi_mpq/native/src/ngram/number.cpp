// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "arpa.h"

namespace kaldi_mpq {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

double power_of_ten(int exponent) {
  static constexpr double kExact[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11};
  return exponent < 12 ? kExact[exponent] : std::pow(10.0, exponent);
}

bool is_infinity(std::string_view text) {
  if (text.empty() || is_digit(text[0])) return false;
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(c | 0x20);
  return lower == "inf" || lower == "infinity";
}

}  // namespace

bool parse_number(std::string_view text, double* value) {
  size_t at = 0;
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) ++at;
  if (is_infinity(text.substr(at))) {
    *value = negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
    return true;
  }
  double mantissa = 0.0;
  int exponent = 0, digits = 0;
  bool after_point = false;
  for (; at < text.size() && (is_digit(text[at]) || (text[at] == '.' && !after_point)); ++at) {
    if (text[at] == '.') {
      after_point = true;
      continue;
    }
    mantissa = 10.0 * mantissa + (text[at] - '0');
    exponent -= after_point;
    ++digits;
  }
  if (digits == 0) return false;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    const bool below = at < text.size() && text[at] == '-';
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    const size_t first = at;
    int written = 0;
    for (; at < text.size() && is_digit(text[at]) && written < 10000; ++at) written = 10 * written + (text[at] - '0');
    if (at == first) return false;
    exponent += below ? -written : written;
  }
  if (at != text.size()) return false;
  const double scaled = exponent < 0 ? mantissa / power_of_ten(-exponent) : mantissa * power_of_ten(exponent);
  *value = negative ? -scaled : scaled;
  return std::isfinite(scaled);
}

}  // namespace kaldi_mpq
