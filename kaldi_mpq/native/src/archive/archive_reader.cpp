// SPDX-License-Identifier: Apache-2.0
#include "archive_reader.h"

#include "arrays.h"
#include "binary_reader.h"
#include "fst_format.h"
#include "text_reader.h"

namespace kaldi_mpq {
namespace {

constexpr size_t kLongestKey = 65536;  // far above any; what is no archive may have no space for long
constexpr size_t kShownBytes = 24;

Fault no_lattice(int first_byte, int64_t offset) {
  Fault fault("no lattice", offset);
  fault.expect("a newline (text) or bytes d6 fd b2 7e (binary)").find(printable(std::string(1, static_cast<char>(first_byte))));
  if (first_byte == 0) fault.advise("a \\0B marker: vectors and matrices have it, lattices do not");
  return fault;
}

void skip_rest_of_key_line(ByteReader& in) {
  const int64_t at = in.offset();
  const ByteReader::Line line = in.take_line();
  for (const char c : line.text)
    if (!is_space(c))
      throw Fault("a text lattice begins on the line of its key", at)
          .expect("a newline after the key")
          .find(printable(line.text.substr(0, kShownBytes)));
  if (!line.complete) throw Fault("the archive ends after a key", at).expect("a lattice").find("end of file");
}

}  // namespace

bool ArchiveReader::read_record(Lattices* out) {
  in_.skip_space();
  record_begin_ = in_.offset();
  if (in_.peek() < 0) return false;
  std::string key;
  try {
    key = take_key();
  } catch (Fault& fault) {
    complain(fault, key);
  }
  append_object(key, out);
  return true;
}

void ArchiveReader::read_object(const std::string& key, Lattices* out) {
  record_begin_ = in_.offset();
  append_object(key, out);
}

bool ArchiveReader::at_end() {
  in_.skip_space();
  return in_.peek() < 0;
}

bool ArchiveReader::seek(int64_t offset) {
  only_text_ = false;
  return in_.seek(offset);
}

std::string ArchiveReader::take_key() {
  const bool compressed = in_.peek() == 0x1f, bare = in_.peek() == kFstFirstByte;
  std::string key;
  for (int c = in_.peek(); !is_space(c); c = in_.peek()) {
    if (c < 0) throw Fault("the archive ends in the middle of a key").expect("a space").find(printable(key));
    key += *in_.take(1, "a key");
    // What is compressed has a space somewhere by chance, after which it would be taken for a damaged lattice.
    if (key.size() <= (compressed ? size_t{1} : kLongestKey)) continue;
    Fault fault("no key");
    fault.expect("a key, then a space").find(printable(key.substr(0, kShownBytes)) + "...");
    if (compressed) fault.advise("is it compressed?");
    if (bare) fault.advise("an FST without a key is no archive");
    throw fault;
  }
  if (in_.peek() == ' ' || in_.peek() == '\t') in_.skip(1, "a key");
  return key;
}

void ArchiveReader::append_object(const std::string& key, Lattices* out) {
  const int64_t before = out->size();
  try {
    const int first_byte = in_.peek();
    if (first_byte < 0) throw Fault("the archive ends after a key").expect("a lattice").find("end of file");
    if (first_byte == kFstFirstByte) {
      only_text_ = false;
      read_binary(in_, out);
    } else if (is_space(first_byte)) {
      skip_rest_of_key_line(in_);
      read_text(in_, out);
    } else {
      throw no_lattice(first_byte, in_.offset());
    }
    out->keys.push_back(key);
  } catch (Fault& fault) {
    truncate(out, before);
    complain(fault, key);
  } catch (...) {
    truncate(out, before);
    throw;
  }
}

void ArchiveReader::complain(Fault& fault, const std::string& key) const {
  const int64_t offset = fault.offset < 0 ? record_begin_ : fault.offset;
  fault.where = name_ + ":" + unit_ + " " + std::to_string(offset);
  if (only_text_ && fault.line > 0) fault.where += ", line " + std::to_string(fault.line);
  if (!key.empty()) fault.where += ", key " + printable(key);
  throw fault;
}

}  // namespace kaldi_mpq
