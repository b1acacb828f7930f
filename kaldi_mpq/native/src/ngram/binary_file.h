// SPDX-License-Identifier: Apache-2.0
// A file in memory, shared with other processes that read it, and a cursor over it that never runs past the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "fault.h"

namespace kaldi_mpq {

class BinaryFile {
 public:
  explicit BinaryFile(const std::string& path);
  ~BinaryFile();
  BinaryFile(const BinaryFile&) = delete;
  BinaryFile& operator=(const BinaryFile&) = delete;

  const char* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  const char* data_ = nullptr;
  int64_t size_ = 0;
};

// Values are little-endian and may lie at any address.
template <class T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

class Cursor {
 public:
  explicit Cursor(const BinaryFile& file) : begin_(file.data()), at_(begin_), end_(begin_ + file.size()) {}

  int64_t offset() const { return at_ - begin_; }
  int64_t left() const { return end_ - at_; }

  // The next `bytes` bytes, which are `what`.
  const char* take(int64_t bytes, const char* what) {
    if (bytes > left())
      throw Fault("truncated", at_byte(offset()), std::to_string(bytes) + " bytes of " + what,
                  std::to_string(left()) + " bytes");
    const char* taken = at_;
    at_ += bytes;
    return taken;
  }

  template <class T>
  T value(const char* what) {
    return load<T>(take(sizeof(T), what));
  }

  // A number in Kaldi's binary form: one byte with its size, then the number.
  template <class T>
  T sized(const char* what) {
    const int64_t here = offset();
    const int size = value<int8_t>(what);
    if (size != static_cast<int>(sizeof(T)))
      throw Fault(std::string("bad size of ") + what, at_byte(here), std::to_string(sizeof(T)), std::to_string(size));
    return value<T>(what);
  }

  // The text `expected`, byte for byte.
  void token(const std::string& expected) {
    const int64_t here = offset();
    const char* found = take(expected.size(), expected.c_str());
    if (std::memcmp(found, expected.data(), expected.size()) != 0)
      throw Fault("bad token", at_byte(here), "'" + expected + "'", "'" + printable(found, expected.size()) + "'");
  }

  static std::string printable(const char* bytes, int64_t size) {
    std::string text(bytes, size);
    for (char& c : text)
      if (c < 0x20 || c > 0x7e) c = '?';
    return text;
  }

 private:
  const char* begin_;
  const char* at_;
  const char* end_;
};

}  // namespace kaldi_mpq
