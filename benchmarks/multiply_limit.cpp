// SPDX-License-Identifier: Apache-2.0
// The most products that packed kernels could do here: multiplications and additions from registers, nothing else.
//
// Prints two numbers: products of bytes, of 16-bit numbers, in thousand millions per second of one thread.
#include <algorithm>
#include <cstdio>
#include <ctime>

static double seconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

#define ONE(multiply, add, sum, product) \
  multiply " %%ymm14, %%ymm15, %%ymm" #product "\n\t" add " %%ymm" #product ", %%ymm" #sum ", %%ymm" #sum "\n\t"
#define SIX(multiply, add)                                                                            \
  ONE(multiply, add, 0, 12) ONE(multiply, add, 1, 13) ONE(multiply, add, 2, 12) ONE(multiply, add, 3, 13) \
  ONE(multiply, add, 4, 12) ONE(multiply, add, 5, 13)
#define LOOP(name, multiply, add)                                                                      \
  static void name(long rounds) {                                                                     \
    asm volatile(".p2align 5\n1:\n\t" SIX(multiply, add) SIX(multiply, add) "dec %0\n\tjnz 1b"        \
                 : "+r"(rounds)                                                                       \
                 :                                                                                    \
                 : "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm12", "ymm13", "ymm14", "ymm15"); \
  }
LOOP(bytes, "vpmaddubsw", "vpaddw")
LOOP(words, "vpmaddwd", "vpaddd")

static double most(void (*loop)(long), int products) {
  constexpr long kRounds = 1000000;
  double least = 1e9;
  for (int i = 0; i < 15; ++i) {
    const double start = seconds();
    loop(kRounds);
    least = std::min(least, seconds() - start);
  }
  return 12e-9 * products * kRounds / least;
}

int main() { std::printf("%.1f %.1f\n", most(bytes, 32), most(words, 16)); }
