// SPDX-License-Identifier: Apache-2.0
// The choice among kernels: by what the processor runs, or by name.
#include "kernels.h"

#include <cstring>
#include <initializer_list>

namespace kaldi_mpq::packed {

const Kernels& best_kernels() {
  for (const Kernels* kernels : {vnni_kernels(), avx2_kernels()})
    if (kernels != nullptr) return *kernels;
  return portable_kernels();
}

const Kernels* kernels_named(const char* name) {
  for (const Kernels* kernels : {vnni_kernels(), avx2_kernels(), &portable_kernels()})
    if (kernels != nullptr && std::strcmp(kernels->name, name) == 0) return kernels;
  return nullptr;
}

}  // namespace kaldi_mpq::packed
