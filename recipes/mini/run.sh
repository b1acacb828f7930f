#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From text to speech to lattices to the table, on any machine: espeak-ng reads chat messages aloud, a small LF-MMI TDNN-F
# and k2 make lattices of it, and LMs of ours rescore them. No Kaldi, no licence. Results: RESULTS.md, what is what: README.md.
#
#   bash run.sh                       # make demo: an LSTM in float and 16 times smaller
#   bash run.sh --lm transformer      # --lm "lstm transformer": both
#   bash run.sh --full true           # real sizes, all widths: hours; --help lists every option
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

settings=(
  --recipe-dir "$recipe"
  --test 300
  --am-train 3000
  --vocabulary 8000
  --snr "5 15"
  --first-pass "3-gram first pass"
  --order 3
  --weight 0.5
  --results "$recipe/RESULTS.md"
)
exec "$recipe/local/pipeline.sh" "${settings[@]}" -- "$@"
