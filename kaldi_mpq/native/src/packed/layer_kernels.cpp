// SPDX-License-Identifier: Apache-2.0
// The layers' arithmetic compiled for any processor, and for those with AVX2 and FMA.
#include "layer_kernels.h"

#include <cstring>

#include "layer_plain.h"

namespace kaldi_mpq::packed {
namespace {

namespace portable {
void normalize(const float* x, int64_t n, const float* scale, const float* shift, float* out) {
  plain::normalize(x, n, scale, shift, out);
}
void gelu(float* x, int64_t n) { plain::gelu(x, n); }
void attend(const float* query, const Attended& there, float* weights, float* out) {
  plain::attend(query, there, weights, out);
}
constexpr LayerKernels kKernels{"portable", normalize, gelu, attend};
}  // namespace portable

#if defined(__x86_64__) && defined(__GNUC__)

#define KALDI_MPQ_AVX2 __attribute__((target("avx2,fma")))

namespace avx2 {
KALDI_MPQ_AVX2 void normalize(const float* x, int64_t n, const float* scale, const float* shift, float* out) {
  plain::normalize(x, n, scale, shift, out);
}
KALDI_MPQ_AVX2 void gelu(float* x, int64_t n) { plain::gelu(x, n); }
KALDI_MPQ_AVX2 void attend(const float* query, const Attended& there, float* weights, float* out) {
  plain::attend(query, there, weights, out);
}
constexpr LayerKernels kKernels{"avx2", normalize, gelu, attend};
}  // namespace avx2

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

#else

namespace avx2 = portable;
bool has_avx2() { return false; }

#endif

}  // namespace

const LayerKernels& layer_kernels(const char* name) {
  return std::strcmp(name, "portable") != 0 && has_avx2() ? avx2::kKernels : portable::kKernels;
}

}  // namespace kaldi_mpq::packed
