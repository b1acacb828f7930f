// SPDX-License-Identifier: Apache-2.0
// A stream of bytes with a look-ahead as long as is needed. What the bytes mean is not its business.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kaldi_mpq {

inline bool is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

class ByteReader {
 public:
  // Appends the next bytes of the source to `buffer`; false at the end of the source.
  using Refill = std::function<bool(std::string* buffer)>;

  explicit ByteReader(Refill refill) : refill_(std::move(refill)) {}

  // Where the next byte is in the source, and in which line if the source is text up to there.
  int64_t offset() const { return base_ + static_cast<int64_t>(position_); }
  int64_t line_number() const { return line_number_; }

  // Whether there are `count` more bytes.
  bool has(size_t count) { return buffer_.size() - position_ >= count || refill_to(count); }

  // The next byte, -1 at the end.
  int peek() { return has(1) ? static_cast<unsigned char>(buffer_[position_]) : -1; }

  // The next `count` bytes in one piece, good until the next call; `part` says of what, should the source end before.
  const char* take(size_t count, const char* part) {
    if (!has(count)) fail_at_end(count, part);
    const char* bytes = buffer_.data() + position_;
    position_ += count;
    return bytes;
  }

  template <typename T>
  T take(const char* part) {
    T value;
    std::memcpy(&value, take(sizeof value, part), sizeof value);
    return value;
  }

  // Append `count` integers to `out`; memory grows only with bytes that are there, whatever a damaged count says.
  void take_integers(int64_t count, std::vector<int32_t>* out, const char* part);

  void skip(uint64_t count, const char* part);
  void skip_space();

  struct Line {
    std::string_view text;  // without its newline, good until the next call
    bool complete;          // ends with a newline, not with the source
  };
  Line take_line();

  // Go to `offset` if it lies in the buffer. If not, forget the buffer: the source has to go there before the next call.
  bool seek(int64_t offset);

 private:
  bool refill_to(size_t count);
  [[noreturn]] void fail_at_end(size_t count, const char* part) const;

  Refill refill_;
  std::string buffer_;
  size_t position_ = 0;
  int64_t base_ = 0;  // of the buffer, in the source
  int64_t line_number_ = 1;
};

}  // namespace kaldi_mpq
