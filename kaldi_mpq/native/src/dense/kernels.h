// SPDX-License-Identifier: Apache-2.0
// What depends on the processor: products of tiles, sums of exponentials, the step of an LSTM's cell.
//
// A tile is kTileRows rows of x times kTileWords rows of w in 16-bit integers. Columns come in chunks. Within a chunk
// sums are exact 32-bit integers, the same on every processor; chunks are put together in float32. Not here: how rows
// are quantized and laid out (packed_matrix.h, packed_rows.h), and who calls tiles in which order (output_layer.h).
#pragma once

#include <cstdint>

namespace kaldi_mpq::dense {

constexpr int64_t kTileRows = 6;
constexpr int64_t kTileWords = 16;
constexpr int64_t kTileSize = kTileRows * kTileWords;
constexpr int64_t kColumnStep = 16;     // chunks are whole multiples of this many columns
constexpr int64_t kLongestChunk = 128;  // columns

// |x| and |w| of a chunk are kept below these, so that no sum of products leaves 32 bits (Cauchy-Schwarz). x gets more
// of the bits: its rounding errors are the same for all words, those of w average over the vocabulary.
constexpr double kLargestRowNorm = 80000.0;
constexpr double kLargestWordNorm = 26800.0;
static_assert(kLargestRowNorm * kLargestWordNorm < 2147483647.0, "sums are below 2^31");
constexpr double kLargestCode = 32767.0;

// What a row gathers while tiles pass: the sum of 2^logit, and of each of kTileWords classes of words (by number modulo
// kTileWords) the largest logit and its panel.
struct RowTotals {
  float sum[8];
  float best[kTileWords];
  int32_t best_panel[kTileWords];
};

// What makes logits of the sums of row i and word v: y_iv = scale_v sum_c row_scale_ci sum_civ + shift_v.
struct PanelScales {
  const float* scale;  // (kTileWords)
  const float* shift;  // (kTileWords)
};

struct Kernels {
  const char* name;

  // Writes out[i * kTileWords + v] = sum_k x_ik w_vk over one chunk. x: [columns / 2][kTileRows][2],
  // w: [columns / 2][kTileWords][2], 32-byte aligned.
  void (*multiply)(const int16_t* x, const int16_t* w, int64_t columns, int32_t* out);

  // Adds 2^y of a tile to the totals of its rows. sums: [chunk][kTileSize]; row_scale: [chunk][kTileRows].
  void (*add_powers)(const int32_t* sums, int64_t chunks, const float* row_scale, PanelScales words, int32_t panel,
                     RowTotals* totals);

  // One step of one LSTM history: gates input, forget, cell, output are a + b, (4 * cells) each. Where there are
  // peepholes, (3 * cells), input and forget gate see the old cell through them, the output gate the new one.
  void (*lstm_cell)(const float* a, const float* b, const float* old_cell, const float* peephole, int64_t cells,
                    float* hidden, float* cell);
};

// The fastest kernels that this processor runs.
const Kernels& best_kernels();

// Those of that name (avx2, portable); nullptr where there are none or the processor lacks the instructions.
const Kernels* kernels_named(const char* name);

const Kernels& portable_kernels();
const Kernels* avx2_kernels();

}  // namespace kaldi_mpq::dense
