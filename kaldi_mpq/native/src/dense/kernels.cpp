// SPDX-License-Identifier: Apache-2.0
// The choice among kernels: by what the processor runs, or by name.
#include <cstring>
#include <initializer_list>

#include "kernels.h"

namespace kaldi_mpq::dense {

const Kernels& best_kernels() {
  const Kernels* avx2 = avx2_kernels();
  return avx2 != nullptr ? *avx2 : portable_kernels();
}

const Kernels* kernels_named(const char* name) {
  for (const Kernels* kernels : {avx2_kernels(), &portable_kernels()})
    if (kernels != nullptr && std::strcmp(kernels->name, name) == 0) return kernels;
  return nullptr;
}

}  // namespace kaldi_mpq::dense
