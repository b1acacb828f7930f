#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The table of all methods, one command: text, n-gram and float LMs by run.sh (what is there is kept), then the sweeps.
#
#   bash run_sweep.sh --kaldi-dir DIR                                          # LSTM 1x256 and Transformer 2x128, 3 seeds
#   bash run_sweep.sh --kaldi-dir DIR --lms "lstm_1a transformer_1a" --sweeps big_1a --nj 2
#   bash run_sweep.sh --kaldi-dir DIR --table-only true --write-results true   # into RESULTS.md
#
# --kaldi-dir and --out are run.sh's, all else is local/sweep.sh's (its --help lists it).
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kaldi_dir="" out=$recipe lms="lstm_small_1a transformer_small_1a" device=auto
options=()
while [ $# -gt 0 ]; do
  case "$1" in
    --*=*) name=${1%%=*} value=${1#*=}; shift ;;
    --help | -h) exec "$recipe/../../local/sweep.sh" --help ;;
    --*) [ $# -gt 1 ] || { echo "run_sweep.sh: option $1 has no value" >&2; exit 1; }; name=$1 value=$2; shift 2 ;;
    *) echo "run_sweep.sh: unexpected argument: $1" >&2; exit 1 ;;
  esac
  case "$name" in
    --kaldi-dir | --kaldi_dir) kaldi_dir=$value ;;
    --out) out=$value ;;
    --lms) lms=$value ;;
    *)
      if [ "$name" = --device ]; then device=$value; fi
      options+=("$name" "$value") ;;
  esac
done
[ -n "$kaldi_dir" ] || { echo "run_sweep.sh: --kaldi-dir DIR, a Kaldi recipe directory (see run.sh --help)" >&2; exit 1; }
bash "$recipe/run.sh" --kaldi-dir "$kaldi_dir" --out "$out" --lms "$lms" --device "$device" --stop-stage 3 > /dev/null
exec "$recipe/../../local/sweep.sh" --recipe-dir "$recipe" --out "$out" --sweeps small_1a --results "$recipe/RESULTS.md" \
  -- --lms "$lms" "${options[@]}"
