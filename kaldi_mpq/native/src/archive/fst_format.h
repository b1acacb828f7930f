// SPDX-License-Identifier: Apache-2.0
// Numbers of OpenFst's file format that reader and writer share.
#pragma once

#include <cstdint>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Kaldi's files, and this code, are little-endian");

namespace kaldi_mpq {

inline constexpr int32_t kFstMagic = 2125659606;
inline constexpr int kFstFirstByte = 0xd6;  // of the magic number, by which Kaldi tells the binary form from text
inline constexpr int32_t kFstVersion = 2;
inline constexpr char kFstType[] = "vector";

}  // namespace kaldi_mpq
