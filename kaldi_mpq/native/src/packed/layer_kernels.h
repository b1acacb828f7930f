// SPDX-License-Identifier: Apache-2.0
// What a Transformer's layers do in floats, one row at a time: layer norm, GELU, attention over rows of an arena.
//
// Not here: products with weights (kernels.h), and who calls these in which order (transformer.h).
#pragma once

#include <cstdint>

namespace kaldi_mpq::packed {

// What a query looks at: row rows[t] of keys and values, (heads * width) floats each, for t below count.
struct Attended {
  const float *keys, *values;
  const int64_t* rows;
  int64_t count, heads, width;

  // Floats that `attend` needs room for.
  int64_t weights() const { return heads * ((count + 7) / 8 * 8); }
};

struct LayerKernels {
  const char* name;

  // out = scale (x - mean) / sqrt(variance + 1e-5) + shift, all (n); out may be x.
  void (*normalize)(const float* x, int64_t n, const float* scale, const float* shift, float* out);

  // x Phi(x) in the place of each x, Phi the normal distribution; its error is below 1e-6.
  void (*gelu)(float* x, int64_t n);

  // Writes softmax(q k / sqrt(width)) v of each head, (heads * width).
  void (*attend)(const float* query, const Attended& there, float* weights, float* out);
};

// Those for the processor that the kernels of that name are for.
const LayerKernels& layer_kernels(const char* name);

}  // namespace kaldi_mpq::packed
