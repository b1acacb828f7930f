#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Switchboard s5c: the 4-gram in its lattices against LSTM and Transformer LMs, in float and at 8, 4, 2 and 1 bits.
# No results yet: nobody here has run it, the corpus needs a licence. README.md says what it expects.
#
#   bash run.sh --kaldi-dir ~/kaldi/egs/swbd/s5c     # --help lists every option
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

settings=(
  --recipe-dir "$recipe"
  --train-text "data/train_nodev/text data/train/text"
  --lang "data/lang_sw1_fsh_fg"
  --dev train_dev
  --evals eval2000
  --data "data/%s"
  --decode "exp/chain/tdnn7q_sp/decode_%s_sw1_fsh_fg"
  --first-pass "4-gram first pass"
  --order 4
  --weight 0.8
  --score-mode stm
  --results "$recipe/RESULTS.md"
)
exec "$recipe/../../local/pipeline.sh" "${settings[@]}" -- "$@"
