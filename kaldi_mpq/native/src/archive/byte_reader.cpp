// SPDX-License-Identifier: Apache-2.0
#include "byte_reader.h"

#include <algorithm>

#include "fault.h"

namespace kaldi_mpq {
namespace {

// Far above any line that Kaldi writes; in a damaged file the next newline may be anywhere.
constexpr size_t kLongestLine = size_t{1} << 26;

}  // namespace

bool ByteReader::refill_to(size_t count) {
  while (buffer_.size() - position_ < count) {
    buffer_.erase(0, position_);
    base_ += static_cast<int64_t>(position_);
    position_ = 0;
    if (!refill_(&buffer_)) return false;
  }
  return true;
}

void ByteReader::fail_at_end(size_t count, const char* part) const {
  throw Fault(std::string("the archive ends in the middle of ") + part, offset())
      .expect(std::to_string(count) + " more bytes")
      .find("only " + std::to_string(buffer_.size() - position_));
}

void ByteReader::take_integers(int64_t count, std::vector<int32_t>* out, const char* part) {
  while (count > 0) {
    if (!has(sizeof(int32_t))) fail_at_end(static_cast<size_t>(count) * sizeof(int32_t), part);
    const size_t available = (buffer_.size() - position_) / sizeof(int32_t);
    const size_t piece = std::min(available, static_cast<size_t>(count));
    const size_t before = out->size();
    out->resize(before + piece);
    std::memcpy(out->data() + before, buffer_.data() + position_, piece * sizeof(int32_t));
    position_ += piece * sizeof(int32_t);
    count -= static_cast<int64_t>(piece);
  }
}

void ByteReader::skip(uint64_t count, const char* part) {
  while (count > 0) {
    if (!has(1)) fail_at_end(count, part);
    const size_t piece = static_cast<size_t>(std::min<uint64_t>(count, buffer_.size() - position_));
    position_ += piece;
    count -= piece;
  }
}

void ByteReader::skip_space() {
  for (int c = peek(); is_space(c); c = peek()) {
    line_number_ += c == '\n';
    ++position_;
  }
}

ByteReader::Line ByteReader::take_line() {
  for (size_t seen = 0;;) {
    const size_t end = buffer_.find('\n', position_ + seen);
    if (end != std::string::npos) {
      const std::string_view text(buffer_.data() + position_, end - position_);
      position_ = end + 1;
      ++line_number_;
      return {text, true};
    }
    seen = buffer_.size() - position_;
    if (seen > kLongestLine) throw Fault("a line of text is too long", offset()).expect("a newline");
    if (!has(seen + 1)) {
      const std::string_view text(buffer_.data() + position_, seen);
      position_ += seen;
      return {text, false};
    }
  }
}

bool ByteReader::seek(int64_t offset) {
  const bool buffered = offset >= base_ && offset <= base_ + static_cast<int64_t>(buffer_.size());
  if (buffered) {
    position_ = static_cast<size_t>(offset - base_);
  } else {
    buffer_.clear();
    position_ = 0;
    base_ = offset;
  }
  return buffered;
}

}  // namespace kaldi_mpq
