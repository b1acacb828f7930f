// SPDX-License-Identifier: Apache-2.0
#include "matrix.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "half.h"

namespace kaldi_mpq::packed {
namespace {

void require(bool good, const std::string& what) {
  if (!good) throw std::invalid_argument(what);
}

// Returns the field of code number `at` in a stream of two's complement numbers (1 bit: as it is).
inline uint8_t field_at(const uint8_t* packed, int bits, int64_t at) {
  const uint8_t mask = static_cast<uint8_t>((1 << bits) - 1);
  const uint64_t bit = static_cast<uint64_t>(at) * bits;
  const uint8_t pattern = static_cast<uint8_t>((packed[bit / 8] >> (bit % 8)) & mask);
  if (bits == 1) return pattern;
  const uint8_t none = static_cast<uint8_t>(1 << (bits - 1));
  if (pattern == none) throw std::invalid_argument("a pattern that is no code of " + std::to_string(bits) + " bits");
  return static_cast<uint8_t>((pattern + field_offset(bits)) & mask);
}

// Columns of a row that lie together.
constexpr uint32_t together(bool floats) { return floats ? 1 : 4; }

// Number of the field of a panel's row and column in a segment.
inline uint32_t place_of(uint32_t row, uint32_t column, uint32_t group) {
  return (column / group * kPanel + row) * group + column % group;
}

// Byte and shift of a field in what is laid out.
inline uint32_t byte_of(uint32_t place, uint32_t bits) {
  const uint32_t block = kFieldBlock * (8 / bits);
  return place / block * kFieldBlock + place % kFieldBlock;
}
inline uint32_t shift_of(uint32_t place, uint32_t bits) {
  return place % (kFieldBlock * (8 / bits)) / kFieldBlock * bits;
}

// Puts n codes, from number `at` of a stream, into a row of a panel's segment.
template <uint32_t kBits, uint32_t kGroup>
void lay_out(const uint8_t* packed, int64_t at, int64_t n, int64_t row, uint8_t* to) {
  for (uint32_t k = 0; k < n; ++k) {
    const uint32_t place = place_of(static_cast<uint32_t>(row), k, kGroup);
    to[byte_of(place, kBits)] |= static_cast<uint8_t>(field_at(packed, kBits, at + k) << shift_of(place, kBits));
  }
}

using LayOut = void (*)(const uint8_t*, int64_t, int64_t, int64_t, uint8_t*);

template <uint32_t kBits>
LayOut lay_out_in(int64_t group) {
  return group == 4 ? lay_out<kBits, 4> : lay_out<kBits, 1>;
}

LayOut lay_out_for(int bits, int64_t group) {
  if (bits == 1) return lay_out_in<1>(group);
  if (bits == 2) return lay_out_in<2>(group);
  return bits == 4 ? lay_out_in<4>(group) : lay_out_in<8>(group);
}

}  // namespace

Matrix::Matrix(int64_t columns, int64_t block, int activation_bits, float clip, const Kernels& kernels)
    : segments_(Segments::of(columns, block)), activation_bits_(activation_bits), clip_(clip), kernels_(&kernels) {
  require(columns > 0 && block >= 0, "a matrix has columns");
  require((activation_bits >= 2 && activation_bits <= 8) || activation_bits == 16 || activation_bits == 32,
          "activations have 2 to 8, 16 or 32 bits");
  require(clip >= 0.0f && (clip == 0.0f || activation_bits <= 8), "a clip is for activations of 2 to 8 bits");
}

Matrix::Kind Matrix::kind_of(int bits, int activation_bits) const {
  if (bits > 8 || activation_bits == 32) return Kind::kFloats;
  return activation_bits <= 8 && (bits < 8 || kernels_->multiplies_8_bits) ? Kind::kBytes : Kind::kWords;
}

Matrix::Unit Matrix::empty_unit(int bits, int64_t rows) const {
  require(rows > 0, "a unit has rows");
  const int64_t panels = (rows + kPanel - 1) / kPanel;
  Unit unit{bits, rows_, rows, kind_of(bits, activation_bits_), {}, {}};
  unit.data.assign(panels * segments_.count * bytes_of_segment(unit), 0);
  if (bits <= 8) unit.scales.assign(panels * segments_.count * kPanel, 0.0f);
  return unit;
}

void Matrix::append(Unit unit) {
  if (unit.bits <= 8) largest_code_ = std::max(largest_code_, largest_code(unit.bits));
  const int64_t number = static_cast<int64_t>(units_.size());
  for (int64_t row = 0; row < unit.rows; row += kPanel)
    panels_.push_back({number, row / kPanel, rows_ + row, std::min(kPanel, unit.rows - row)});
  rows_ += unit.rows;
  units_.push_back(std::move(unit));
}

void Matrix::add_codes(int bits, int64_t rows, const uint8_t* packed, int64_t bytes, const float* scales) {
  require(bits == 1 || bits == 2 || bits == 4 || bits == 8, "codes have 1, 2, 4 or 8 bits");
  const int64_t count = rows * columns();
  require(bytes == (count * bits + 7) / 8, "codes of another size");
  require(count * bits % 8 == 0 || packed[bytes - 1] >> (count * bits % 8) == 0, "bits are set after the last code");
  Unit unit = empty_unit(bits, rows);
  const LayOut put = lay_out_for(bits, together(unit.kind == Kind::kFloats));
  for (int64_t r = 0, at = 0; r < rows; ++r)
    for (int64_t s = 0; s < segments_.count; at += segments_.size(s), ++s) {
      unit.scales[(r / kPanel * segments_.count + s) * kPanel + r % kPanel] = scales[r * segments_.count + s];
      put(packed, at, segments_.size(s), r % kPanel, const_cast<uint8_t*>(data(unit, r / kPanel, s)));
    }
  append(std::move(unit));
}

void Matrix::add_values(int64_t rows, const float* values, bool half) {
  Unit unit = empty_unit(half ? 16 : 32, rows);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t s = 0; s < segments_.count; ++s) {
      uint8_t* to = const_cast<uint8_t*>(data(unit, r / kPanel, s));
      for (int64_t k = 0; k < segments_.size(s); ++k, ++values) {
        const int64_t place = place_of(r % kPanel, k, 1);
        const uint16_t small = to_half(*values);
        if (half)
          std::memcpy(to + place * 2, &small, 2);
        else
          std::memcpy(to + place * 4, values, 4);
      }
    }
  append(std::move(unit));
}

int64_t Matrix::bytes() const {
  int64_t total = 0;
  for (const Unit& unit : units_)
    total += static_cast<int64_t>(unit.data.size() + unit.scales.size() * sizeof(float));
  return total;
}

Forms Matrix::forms(bool cheap) const {
  const int bits = cheap && activation_bits_ == 16 ? 8 : activation_bits_;
  Forms forms{false, false, false, 1, clip_};
  for (const Unit& unit : units_) {
    const Kind kind = kind_of(unit.bits, bits);
    forms.bytes |= kind == Kind::kBytes;
    forms.words |= kind == Kind::kWords;
    forms.floats |= kind == Kind::kFloats;
  }
  const int64_t room = 2147483647 / std::max<int64_t>(1, segments_.each * largest_code_);
  const int64_t wanted = (int64_t{1} << (std::min(bits, 16) - 1)) - 1;
  forms.limit = static_cast<int32_t>(std::max<int64_t>(1, std::min(wanted, room)));
  return forms;
}

float Matrix::value(const Unit& unit, int64_t row, int64_t segment, int64_t column) const {
  const uint8_t* from = data(unit, row / kPanel, segment);
  const int64_t place = place_of(row % kPanel, column, together(unit.kind == Kind::kFloats));
  if (unit.bits == 32) {
    float value;
    std::memcpy(&value, from + place * 4, 4);
    return value;
  }
  if (unit.bits == 16) {
    uint16_t half;
    std::memcpy(&half, from + place * 2, 2);
    return from_half(half);
  }
  const int field = (from[byte_of(place, unit.bits)] >> shift_of(place, unit.bits)) & ((1 << unit.bits) - 1);
  return static_cast<float>(field_step(unit.bits) * field - field_offset(unit.bits));
}

void Matrix::row(int64_t row, float* out) const {
  const Unit* unit = units_.data();
  while (row >= unit->first + unit->rows) ++unit;
  const int64_t own = row - unit->first;
  for (int64_t s = 0; s < segments_.count; ++s) {
    const float scale =
        unit->bits > 8 ? 1.0f : unit->scales[(own / kPanel * segments_.count + s) * kPanel + own % kPanel];
    for (int64_t k = 0; k < segments_.size(s); ++k) *out++ = scale * value(*unit, own, s, k);
  }
}

// Calls each(first column, columns) with those columns of a panel's segment in scratch.unpacked.
template <typename Multiply>
void Matrix::unpacked_chunks(const Unit& unit, const uint8_t* from, bool bytes, Scratch& scratch,
                             const Multiply& each) const {
  float* floats = scratch.unpacked.data();
  for (int64_t begin = 0; begin < segments_.padded_each(); begin += kChunk) {
    const int64_t columns = std::min(kChunk, segments_.padded_each() - begin), count = columns * kPanel;
    if (unit.bits == 32) {
      std::memcpy(floats, from, count * sizeof *floats);
    } else if (unit.bits == 16) {
      const uint16_t* halves = reinterpret_cast<const uint16_t*>(from);  // the unit's data are aligned
      for (int64_t i = 0; i < count; ++i) floats[i] = from_half(halves[i]);
    } else if (unit.kind == Kind::kFloats) {
      kernels_->unpack_floats(from, unit.bits, count, floats);
    } else if (bytes) {
      kernels_->unpack_bytes(from, unit.bits, count, reinterpret_cast<uint8_t*>(floats));
    } else {
      kernels_->unpack_words(from, unit.bits, count, reinterpret_cast<int16_t*>(floats));
    }
    each(begin, columns);
    from += count * unit.bits / 8;
  }
}

// Sums of products of one segment, in scratch.sums or scratch.float_sums.
void Matrix::sum_segment(const Activations& x, const Unit& unit, int64_t place, int64_t segment,
                         Scratch& scratch) const {
  // Whole numbers of at most 8 bits come as bytes where there are products of bytes.
  const bool floats = unit.kind == Kind::kFloats;
  const bool bytes = !floats && x.forms().bytes && (unit.bits < 8 || kernels_->multiplies_8_bits);
  const int64_t n = x.rows(), first = segment * segments_.padded_each(), stride = x.stride();
  int32_t* sums = scratch.sums.data();
  float* float_sums = scratch.float_sums.data();
  if (floats)
    std::memset(float_sums, 0, n * kPanel * sizeof *float_sums);
  else
    std::memset(sums, 0, n * kPanel * sizeof *sums);
  const uint8_t* packed = data(unit, place, segment);
  if (n <= kernels_->few_rows && bytes && unit.bits < 8)
    return kernels_->multiply_few_bytes(x.bytes(0) + first, stride, n, packed, segments_.padded_each(), unit.bits,
                                        sums);
  if (n <= kernels_->few_rows && !floats && !bytes)
    return kernels_->multiply_few_words(x.words(0) + first, stride, n, packed, segments_.padded_each(), unit.bits,
                                        sums);
  unpacked_chunks(unit, packed, bytes, scratch, [&](int64_t from, int64_t columns) {
    const void* fields = scratch.unpacked.data();
    const int64_t at = first + from;
    if (floats)
      kernels_->multiply_floats(x.floats(0) + at, stride, n, static_cast<const float*>(fields), columns, float_sums);
    else if (bytes)
      kernels_->multiply_bytes(x.bytes(0) + at, stride, n, static_cast<const uint8_t*>(fields), columns, unit.bits,
                               sums);
    else
      kernels_->multiply_words(x.words(0) + at, stride, n, static_cast<const int16_t*>(fields), columns, sums);
  });
}

void Matrix::multiply(const Activations& x, int64_t panel, Scratch& scratch, const float* start, float* y,
                      int64_t stride) const {
  const Panel& where = panels_[panel];
  const Unit& unit = units_[where.unit];
  for (int64_t s = 0; s < segments_.count; ++s) {
    sum_segment(x, unit, where.place, s, scratch);
    const float* scale = unit.scales.data() + (where.place * segments_.count + s) * kPanel;
    const float* float_sums = scratch.float_sums.data();
    if (unit.kind != Kind::kFloats) {
      kernels_->add_scaled(scratch.sums.data(), x.rows(), unit.bits, x.sums(0) + s, segments_.count, x.scales(), scale,
                           s == 0 ? start : nullptr, y, stride);
    } else {
      for (int64_t i = 0; i < x.rows(); ++i)
        for (int64_t v = 0; v < kPanel; ++v)
          y[i * stride + v] = (s == 0 ? start[v] : y[i * stride + v]) +
                              (unit.bits > 8 ? 1.0f : scale[v]) * float_sums[i * kPanel + v];
    }
  }
}

void Matrix::integer_sums(const Activations& x, int64_t panel, int32_t* out) const {
  const Panel& where = panels_[panel];
  const Unit& unit = units_[where.unit];
  const uint32_t step = field_step(unit.bits), offset = field_offset(unit.bits);
  Scratch scratch(x.rows());
  for (int64_t s = 0; s < segments_.count; ++s) {
    sum_segment(x, unit, where.place, s, scratch);
    for (int64_t i = 0; i < x.rows(); ++i)
      for (int64_t v = 0; v < kPanel; ++v)
        *out++ = static_cast<int32_t>(step * static_cast<uint32_t>(scratch.sums[i * kPanel + v]) -
                                      offset * static_cast<uint32_t>(x.sums(i)[s]));
  }
}

void Matrix::codes(int8_t* out) const {
  for (const Unit& unit : units_)
    for (int64_t r = 0; r < unit.rows; ++r)
      for (int64_t s = 0; s < segments_.count; ++s)
        for (int64_t k = 0; k < segments_.size(s); ++k) *out++ = static_cast<int8_t>(value(unit, r, s, k));
}

}  // namespace kaldi_mpq::packed
