// SPDX-License-Identifier: Apache-2.0
// Records of a Kaldi lattice archive, one after the other: key, space, lattice in any of Kaldi's forms, told apart for
// each record. Where the bytes come from is not its business.
#pragma once

#include <string>

#include "../lattices.h"
#include "byte_reader.h"
#include "fault.h"

namespace kaldi_mpq {

class ArchiveReader {
 public:
  // Faults are reported as in `name`, at so many of `unit` ("byte").
  ArchiveReader(ByteReader::Refill refill, std::string name, std::string unit)
      : in_(std::move(refill)), name_(std::move(name)), unit_(std::move(unit)) {}

  // Append the next record to `out`; false at the end. Throws Fault, and then leaves `out` as it was.
  bool read_record(Lattices* out);

  // Append the lattice that begins at the next byte, without a key in front, as that of `key`.
  void read_object(const std::string& key, Lattices* out);

  // Whether only white space is left.
  bool at_end();

  // Go to `offset`; if false, the source has to go there too, before the next call.
  bool seek(int64_t offset);

 private:
  std::string take_key();
  void append_object(const std::string& key, Lattices* out);
  [[noreturn]] void complain(Fault& fault, const std::string& key) const;

  ByteReader in_;
  std::string name_, unit_;
  int64_t record_begin_ = 0;
  bool only_text_ = true;  // so far, so that lines can be counted
};

}  // namespace kaldi_mpq
