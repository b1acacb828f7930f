// SPDX-License-Identifier: Apache-2.0
// Steps of a packed Transformer, of shapes that fill nothing, with every set of kernels and several threads, as a
// program for the sanitizers, which test_packed_sanitized.py builds and runs.
#include "packed/transformer.h"

#include <cmath>
#include <cstdio>
#include <random>

namespace kaldi_mpq::packed {

const Kernels* vnni_kernels() { return nullptr; }  // packed_kernels.cpp tries these

}  // namespace kaldi_mpq::packed

namespace {

using namespace kaldi_mpq::packed;

std::mt19937 random_bits(1);

std::vector<float> numbers(int64_t n, float scale) {
  std::vector<float> out(n);
  for (float& x : out) x = scale * (static_cast<float>(random_bits() % 2001) / 1000.0f - 1.0f);
  return out;
}

// Half of the rows in codes of 2 bits, the others in floats.
std::shared_ptr<Matrix> matrix(int64_t rows, int64_t columns, int activation_bits, const Kernels& kernels) {
  auto made = std::make_shared<Matrix>(columns, 0, activation_bits, 0.0f, kernels);
  const int64_t low = rows / 2;
  std::vector<uint8_t> codes((low * columns * 2 + 7) / 8);
  for (int64_t i = 0; i < low * columns; ++i)
    codes[i / 4] |= static_cast<uint8_t>((random_bits() % 2 == 0 ? 1 : 3) << (i % 4 * 2));
  made->add_codes(2, low, codes.data(), static_cast<int64_t>(codes.size()), numbers(low, 0.1f).data());
  made->add_values(rows - low, numbers((rows - low) * columns, 0.3f).data(), true);
  return made;
}

Linear linear(int64_t rows, int64_t columns, int activation_bits, const Kernels& kernels) {
  return {matrix(rows, columns, activation_bits, kernels), numbers(rows, 0.1f)};
}

LayerNorm norm(int64_t width) { return {numbers(width, 1.0f), numbers(width, 0.1f)}; }

bool try_shape(const Kernels& kernels, int64_t heads, int64_t width, int64_t inner, bool pre, int activation_bits) {
  const int64_t vocabulary = 11, n = 150, layers = 2, longest = 12, arena_rows = n;
  std::vector<TransformerBlock> blocks;
  for (int64_t k = 0; k < layers; ++k)
    blocks.push_back({linear(3 * width, width, activation_bits, kernels), linear(width, width, activation_bits, kernels),
                      linear(inner, width, activation_bits, kernels), linear(width, inner, activation_bits, kernels),
                      norm(width), norm(width)});
  const Transformer model(matrix(vocabulary, width, activation_bits, kernels), 2.0f, std::move(blocks),
                          pre ? std::optional<LayerNorm>(norm(width)) : std::nullopt, heads);
  std::vector<int64_t> rows(n * longest, -1), words(n);
  for (int64_t i = 0; i < n; ++i) {
    words[i] = static_cast<int64_t>(random_bits() % vocabulary);
    const int64_t before = std::min<int64_t>(i, static_cast<int64_t>(random_bits() % longest));
    for (int64_t t = 0; t <= before; ++t) rows[(i + 1) * longest - 1 - t] = i - t;
  }
  const std::vector<float> positions = numbers(longest * width, 1.0f);
  std::vector<std::vector<float>> found;
  for (const int threads : {1, 3}) {
    std::vector<float> keys(layers * arena_rows * width, NAN), values(keys), out(n * width);
    model.step({keys.data(), values.data(), arena_rows}, {words.data(), rows.data(), n, longest}, positions.data(),
               threads, out.data());
    found.push_back(out);
  }
  bool good = found[0] == found[1];
  for (const float x : found[0]) good &= std::isfinite(x);
  if (!good)
    std::printf("%s: %d heads, width %d, inner %d, %d bits\n", kernels.name, int(heads), int(width), int(inner),
                activation_bits);
  return good;
}

}  // namespace

int main() {
  bool good = true;
  for (const Kernels* kernels : {&portable_kernels(), avx2_kernels()}) {
    if (kernels == nullptr) continue;
    for (const int activation_bits : {8, 16, 32})
      for (const bool pre : {true, false}) {
        good &= try_shape(*kernels, 1, 2, 3, pre, activation_bits);
        good &= try_shape(*kernels, 3, 33, 21, pre, activation_bits);
        good &= try_shape(*kernels, 2, 32, 40, pre, activation_bits);
      }
    std::printf("%s tried\n", kernels->name);
  }
  return good ? 0 : 1;
}
