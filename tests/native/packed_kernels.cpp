// SPDX-License-Identifier: Apache-2.0
// Every kernel of native/src/packed against sums in 64 bits, as a program for the sanitizers, which
// test_packed_sanitized.py builds and runs. With -DEMULATE_VNNI the kernels for AVX-512 VNNI are compiled with their
// instructions spelled out, so that their loops are tried on any processor.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "packed/kernels.h"

#ifdef EMULATE_VNNI
#include <immintrin.h>

namespace emulated {

struct Ints {
  int32_t lane[16];
};
struct Floats {
  float lane[16];
};

template <typename Lanes>
Lanes load(const void* from) {
  Lanes out;
  __builtin_memcpy(&out, from, sizeof out);
  return out;
}

template <typename Lanes, typename Of>
Lanes each(const Of& of) {
  Lanes out;
  for (int i = 0; i < 16; ++i) out.lane[i] = of(i);
  return out;
}

inline int32_t plus(int32_t a, int64_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

inline Ints dot_bytes(Ints sum, Ints a, Ints b) {
  const uint8_t* u = reinterpret_cast<const uint8_t*>(&a);
  const int8_t* s = reinterpret_cast<const int8_t*>(&b);
  return each<Ints>([&](int i) {
    int32_t total = sum.lane[i];
    for (int j = 0; j < 4; ++j) total = plus(total, u[4 * i + j] * s[4 * i + j]);
    return total;
  });
}

inline Ints dot_words(Ints sum, Ints a, Ints b) {
  int16_t x[32], y[32];
  __builtin_memcpy(x, &a, sizeof x);
  __builtin_memcpy(y, &b, sizeof y);
  return each<Ints>([&](int i) { return plus(plus(sum.lane[i], x[2 * i] * y[2 * i]), x[2 * i + 1] * y[2 * i + 1]); });
}

}  // namespace emulated

#define __m512i emulated::Ints
#define __m512 emulated::Floats
#define _mm512_loadu_si512(from) emulated::load<emulated::Ints>(from)
#define _mm512_loadu_ps(from) emulated::load<emulated::Floats>(from)
#define _mm512_storeu_si512(to, x) __builtin_memcpy(to, &(x), 64)
#define _mm512_storeu_ps(to, x) __builtin_memcpy(to, &(x), 64)
#define _mm512_setzero_si512() emulated::Ints{}
#define _mm512_set1_epi32(x) emulated::each<emulated::Ints>([value = (x)](int) { return value; })
#define _mm512_set1_ps(x) emulated::each<emulated::Floats>([value = (x)](int) { return value; })
#define _mm512_add_epi32(a, b) \
  emulated::each<emulated::Ints>([p = (a), q = (b)](int i) { return emulated::plus(p.lane[i], q.lane[i]); })
#define _mm512_fmadd_ps(a, b, c) \
  emulated::each<emulated::Floats>([p = (a), q = (b), r = (c)](int i) { return p.lane[i] * q.lane[i] + r.lane[i]; })
#define _mm512_dpbusd_epi32 emulated::dot_bytes
#define _mm512_dpwssd_epi32 emulated::dot_words
#define KALDI_MPQ_VNNI
#define KALDI_MPQ_VNNI_ALWAYS
#include "packed/kernels_vnni.cpp"
#endif

namespace {

using kaldi_mpq::packed::Kernels;
using kaldi_mpq::packed::kPanel;

int failures = 0;

void check(bool good, const char* what, const Kernels& kernels, int bits, int64_t rows, int64_t columns) {
  if (good) return;
  std::printf("%s: %s, %d bits, %d rows, %d columns\n", kernels.name, what, bits, int(rows), int(columns));
  ++failures;
}

// Fields as the kernels unpack them, laid out in `packed`.
struct Fields {
  std::vector<uint8_t> packed, field;
  Fields(int bits, int64_t count, std::mt19937& random) : packed(count * bits / 8), field(count) {
    const int64_t block = 32 * (8 / bits), largest = bits == 8 ? 254 : (1 << bits) - 1 - (bits > 1);
    for (int64_t at = 0; at < count; ++at) {
      field[at] = static_cast<uint8_t>(random() % 5 == 0 ? largest : random() % (largest + 1));
      packed[at / block * 32 + at % 32] |= static_cast<uint8_t>(field[at] << (at % block / 32 * bits));
    }
  }
};

// [column / group][kPanel][group]
int64_t place(int64_t v, int64_t k, int64_t group) { return (k / group * kPanel + v) * group + k % group; }

template <typename X, typename Field>
void check_sums(const Kernels& kernels, const std::vector<X>& x, const std::vector<Field>& fields, int64_t group,
                int bits, int64_t rows, int64_t columns, const std::vector<int32_t>& sums) {
  bool good = true;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t v = 0; v < kPanel; ++v) {
      int64_t sum = i - 2 * v;
      for (int64_t k = 0; k < columns; ++k) sum += int64_t{x[i * columns + k]} * fields[place(v, k, group)];
      good &= sums[i * kPanel + v] == static_cast<int32_t>(sum);
    }
  check(good, "sums", kernels, bits, rows, columns);
}

void try_shape(const Kernels& kernels, int bits, int64_t rows, int64_t columns, std::mt19937& random) {
  const Fields made(bits, columns * kPanel, random);
  std::vector<uint8_t> bytes(columns * kPanel);
  std::vector<int16_t> words(columns * kPanel);
  std::vector<float> floats(columns * kPanel);
  kernels.unpack_bytes(made.packed.data(), bits, columns * kPanel, bytes.data());
  kernels.unpack_words(made.packed.data(), bits, columns * kPanel, words.data());
  kernels.unpack_floats(made.packed.data(), bits, columns * kPanel, floats.data());
  bool good = bytes == made.field;
  for (int64_t i = 0; i < columns * kPanel; ++i)
    good &= floats[i] == kaldi_mpq::packed::field_step(bits) * bytes[i] - kaldi_mpq::packed::field_offset(bits);
  for (int64_t v = 0; v < kPanel; ++v)
    for (int64_t k = 0; k < columns; ++k)
      good &= words[place(v, kaldi_mpq::packed::word_place(k), 2)] == bytes[place(v, k, 4)];
  check(good, "fields", kernels, bits, rows, columns);
  const bool has_few = rows <= kernels.few_rows;
  std::vector<int32_t> start(rows * kPanel), sums;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t v = 0; v < kPanel; ++v) start[i * kPanel + v] = static_cast<int32_t>(i - 2 * v);
  std::vector<int16_t> x(rows * columns);
  for (int16_t& one : x) one = static_cast<int16_t>(random() % 7 == 0 ? -32767 : int(random() % 65535) - 32767);
  sums = start;
  kernels.multiply_words(x.data(), columns, rows, words.data(), columns, sums.data());
  check_sums(kernels, x, words, 2, bits, rows, columns, sums);
  if (has_few) {
    sums = start;
    kernels.multiply_few_words(x.data(), columns, rows, made.packed.data(), columns, bits, sums.data());
    check_sums(kernels, x, words, 2, bits, rows, columns, sums);
  }
  if (bits == 8 && !kernels.multiplies_8_bits) return;
  std::vector<int8_t> small(rows * columns);
  for (int8_t& one : small) one = static_cast<int8_t>(random() % 3 == 0 ? 127 : int(random() % 255) - 127);
  sums = start;
  kernels.multiply_bytes(small.data(), columns, rows, bytes.data(), columns, bits, sums.data());
  check_sums(kernels, small, bytes, 4, bits, rows, columns, sums);
  if (!has_few || bits == 8) return;
  sums = start;
  kernels.multiply_few_bytes(small.data(), columns, rows, made.packed.data(), columns, bits, sums.data());
  check_sums(kernels, small, bytes, 4, bits, rows, columns, sums);
}

void try_floats(const Kernels& kernels, int64_t rows, int64_t columns) {
  std::vector<float> x(rows * columns), codes(columns * kPanel), sums(rows * kPanel, 1.0f);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(int(i % 9) - 4);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<float>(int(i % 7) - 3);
  kernels.multiply_floats(x.data(), columns, rows, codes.data(), columns, sums.data());
  bool good = true;  // whole numbers this small are exact
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t v = 0; v < kPanel; ++v) {
      float sum = 1.0f;
      for (int64_t k = 0; k < columns; ++k) sum += x[i * columns + k] * codes[k * kPanel + v];
      good &= sums[i * kPanel + v] == sum;
    }
  check(good, "floats", kernels, 32, rows, columns);
}

}  // namespace

int main() {
  using namespace kaldi_mpq::packed;
  std::vector<const Kernels*> all{&portable_kernels(), avx2_kernels(), vnni_kernels()};
  for (const Kernels* kernels : all) {
    if (kernels == nullptr) continue;
    std::mt19937 random(1);
    for (const int bits : {1, 2, 4, 8})
      for (const int64_t rows : {1, 2, 3, 4, 5, 8, 13})
        for (const int64_t columns : {16, 48, 256, 528}) try_shape(*kernels, bits, rows, columns, random);
    for (const int64_t rows : {1, 3, 9}) try_floats(*kernels, rows, 48);
    std::printf("%s tried\n", kernels->name);
  }
  return failures == 0 ? 0 : 1;
}
