// SPDX-License-Identifier: Apache-2.0
// Products in plain C++: the same integer sums; floats in the same order, rounded oftener where there is no fused
// multiply-add.
#include "kernels.h"
#include "plain.h"

namespace kaldi_mpq::packed {
namespace {

void unpack_bytes(const uint8_t* packed, int bits, int64_t count, uint8_t* out) {
  plain::each_field(packed, bits, count, [=](int64_t at, uint8_t field) { out[at] = field; });
}

void unpack_words(const uint8_t* packed, int bits, int64_t count, int16_t* out) {
  plain::each_field(packed, bits, count, [=](int64_t at, uint8_t field) {
    const int64_t row = at / 4 % kPanel, place = word_place(at / (4 * kPanel) * 4 + at % 4);
    out[(place / 2 * kPanel + row) * 2 + place % 2] = field;
  });
}

void unpack_floats(const uint8_t* packed, int bits, int64_t count, float* out) {
  plain::unpack_floats(packed, bits, count, out);
}

// Whole sums may wrap around, as they do in a register.
template <int kTogether, typename X, typename Field>
void multiply(const X* x, int64_t stride, int64_t rows, const Field* fields, int64_t columns, int32_t* sums) {
  for (int64_t i = 0; i < rows; ++i, x += stride, sums += kPanel) {
    uint32_t totals[kPanel];
    for (int64_t v = 0; v < kPanel; ++v) totals[v] = static_cast<uint32_t>(sums[v]);
    const Field* from = fields;
    for (int64_t k = 0; k < columns; k += kTogether, from += kTogether * kPanel)
      for (int64_t v = 0; v < kPanel; ++v)
        for (int j = 0; j < kTogether; ++j)
          totals[v] += static_cast<uint32_t>(static_cast<int32_t>(x[k + j]) * from[v * kTogether + j]);
    for (int64_t v = 0; v < kPanel; ++v) sums[v] = static_cast<int32_t>(totals[v]);
  }
}

void multiply_bytes(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* fields, int64_t columns, int,
                    int32_t* sums) {
  multiply<4>(x, stride, rows, fields, columns, sums);
}

void multiply_words(const int16_t* x, int64_t stride, int64_t rows, const int16_t* fields, int64_t columns,
                    int32_t* sums) {
  multiply<2>(x, stride, rows, fields, columns, sums);
}

void multiply_floats(const float* x, int64_t stride, int64_t rows, const float* codes, int64_t columns, float* sums) {
  plain::multiply_floats(x, stride, rows, codes, columns, sums);
}

void add_scaled(const int32_t* sums, int64_t rows, int bits, const int32_t* x_sum, int64_t stride,
                const float* x_scale, const float* scale, const float* start, float* y, int64_t y_stride) {
  plain::add_scaled(sums, rows, bits, x_sum, stride, x_scale, scale, start, y, y_stride);
}

void add_powers(const float* y, int64_t rows, const float* bias, const float* shift, LogSums* totals) {
  plain::add_powers(y, rows, bias, shift, totals);
}

constexpr Kernels kPortable{"portable",     true,            unpack_bytes, unpack_words, unpack_floats, multiply_bytes,
                            multiply_words, multiply_floats, 0,            nullptr,      nullptr,       add_scaled,
                            add_powers};

}  // namespace

const Kernels& portable_kernels() { return kPortable; }

}  // namespace kaldi_mpq::packed
