#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# AMI: n-gram against LSTM and Transformer LMs, in float and at 8, 4, 2 and 1 bits; perplexity, WER, bytes. Results: RESULTS.md.
#
#   bash run.sh --kaldi-dir ~/kaldi/egs/ami/s5b      # a recipe that has decoded; --help lists every option
#   bash run.sh --kaldi-dir DIR --quick true         # all stages in some minutes
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

settings=(
  --recipe-dir "$recipe"
  --train-text "data/train/text data/ihm/train/text"
  --lang "data/lang_tg data/lang_ami_fsh.o3g.kn.pr1-7"
  --dev dev
  --evals eval
  --data "data/ihm/%s data/%s"
  --decode "exp/chain/tdnn/decode_%s_tg exp/ihm/chain*/tdnn*/decode_%s"
  --first-pass "3-gram first pass"
  --order 3
  --weight 0.5
  --results "$recipe/RESULTS.md $(dirname "$(dirname "$recipe")")/README.md"
)
exec "$recipe/../../local/pipeline.sh" "${settings[@]}" -- "$@"
