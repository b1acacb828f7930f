// SPDX-License-Identifier: Apache-2.0
// Independent pieces of work on several threads that live for the call only.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace kaldi_mpq::dense {

// Calls work(0) ... work(count - 1), each once, on at most `threads` threads; throws the first exception of any.
template <typename Work>
void parallel(int64_t count, int threads, const Work& work) {
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto loop = [&] {
    try {
      for (int64_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> others;
  for (int64_t t = 1; t < threads && t < count; ++t) {
    try {
      others.emplace_back(loop);
    } catch (const std::system_error&) {  // no more threads to be had: fewer do it too
      break;
    }
  }
  loop();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace kaldi_mpq::dense
