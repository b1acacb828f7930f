// SPDX-License-Identifier: Apache-2.0
// What one core of this processor can do at most, as a line of JSON: 10^9 multiplications a second by the instructions that
// kernels are made of, their operands in registers, and 10^9 bytes a second that it reads.
//
//   c++ -O3 -std=c++17 roof.cpp -o roof && ./roof
//
// Not here: how near a kernel can come, which has to load and to widen as well.
#include <immintrin.h>

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <vector>

namespace {

double seconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

// The best of several short runs, in 10^9 of `amount` a second: other jobs on the machine make runs slower, never faster.
template <typename Run>
double best(double amount, Run run) {
  double least = 1e9;
  for (int i = 0; i < 9; ++i) {
    const double start = seconds();
    run();
    const double took = seconds() - start;
    if (took < least) least = took;
  }
  return 1e-9 * amount / least;
}

constexpr int64_t kLoops = 200000;
constexpr double kSteps = 12.0 * kLoops;

// Twelve sums, more than an instruction's latency times its units, so that none waits; in assembly, because compilers
// fold such loops or keep the sums in memory.
#define MPQ_TWELVE(STEP) STEP("0") STEP("1") STEP("2") STEP("3") STEP("4") STEP("5") STEP("6") STEP("7") STEP("8") STEP("9") STEP("10") STEP("11")
#define MPQ_LOOP(STEP)                                                                                               \
  [] {                                                                                                               \
    int64_t left = kLoops;                                                                                           \
    __asm__ volatile("vzeroall\n1:\n" MPQ_TWELVE(STEP) "dec %0\njnz 1b\n"                                            \
                     : "+r"(left)                                                                                    \
                     :                                                                                               \
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                       "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                                                 \
  }
#define MPQ_FLOATS(N) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" N "\n"
#define MPQ_BYTES(N) "vpmaddubsw %%ymm12, %%ymm13, %%ymm" N "\n"
#define MPQ_ADDED_BYTES(N) "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\nvpaddw %%ymm14, %%ymm" N ", %%ymm" N "\n"
#define MPQ_ADDED_WORDS(N) "vpmaddwd %%ymm12, %%ymm13, %%ymm14\nvpaddd %%ymm14, %%ymm" N ", %%ymm" N "\n"
#define MPQ_FOURS(N) "vpdpbusd %%zmm12, %%zmm13, %%zmm" N "\n"

__attribute__((target("avx2"))) void read_all(const std::vector<int64_t> &data, int times) {
  __m256i sum = _mm256_setzero_si256();
  for (int t = 0; t < times; ++t) {
    for (size_t i = 0; i < data.size(); i += 16) {
      __m256i parts[4];
      for (int k = 0; k < 4; ++k) parts[k] = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(&data[i + 4 * k]));
      sum = _mm256_or_si256(sum, _mm256_or_si256(_mm256_or_si256(parts[0], parts[1]), _mm256_or_si256(parts[2], parts[3])));
    }
    __asm__ volatile("" : "+x"(sum));
  }
}

double read_speed(size_t bytes) {
  const std::vector<int64_t> data(bytes / sizeof(int64_t), 1);
  const int times = static_cast<int>((size_t{1} << 26) / bytes) + 1;
  return best(static_cast<double>(bytes) * times, [&] { read_all(data, times); });
}

}  // namespace

int main() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("{}");
    return 0;
  }
  std::printf("{\"fp32 FMA\": %.1f", best(8 * kSteps, MPQ_LOOP(MPQ_FLOATS)));
  std::printf(", \"vpmaddubsw\": %.1f", best(32 * kSteps, MPQ_LOOP(MPQ_BYTES)));
  std::printf(", \"vpmaddubsw, added up\": %.1f", best(32 * kSteps, MPQ_LOOP(MPQ_ADDED_BYTES)));
  std::printf(", \"vpmaddwd, added up\": %.1f", best(16 * kSteps, MPQ_LOOP(MPQ_ADDED_WORDS)));
  if (__builtin_cpu_supports("avx512vnni")) std::printf(", \"vpdpbusd\": %.1f", best(64 * kSteps, MPQ_LOOP(MPQ_FOURS)));
  for (const size_t kilobytes : {256, 4096, 65536}) {
    std::printf(", \"reads of %zu kB\": %.1f", kilobytes, read_speed(kilobytes << 10));
  }
  std::puts("}");
}
