// SPDX-License-Identifier: Apache-2.0
// Numbers as Kaldi's text form has them, whatever the process's locale is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kaldi_mpq {

// The whole of `text` as a number, false if it is none. A cost may be Infinity, -Infinity or BadNumber (NaN).
bool parse_integer(std::string_view text, int32_t* value);
bool parse_cost(std::string_view text, double* value);

void append_integer(int64_t value, std::string* out);
// With 6 significant digits, as a C++ stream writes a float.
void append_cost(float value, std::string* out);
// With as many digits as it takes to read the same value back.
void append_cost(double value, std::string* out);

}  // namespace kaldi_mpq
