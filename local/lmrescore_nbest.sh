#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# N-best rescoring of Kaldi lattices with a float or packed LM of kaldi_mpq, called as Kaldi's rnnlm/lmrescore_nbest.sh is.
#
# usage: lmrescore_nbest.sh [options] <weight> <old-lang> <lm> <data> <in-decode-dir> <out-decode-dir>
#   e.g. lmrescore_nbest.sh --N 100 0.5 data/lang_tg exp/lstm_4bit/model.mpq data/dev \
#          exp/chain/tdnn/decode_dev_tg exp/chain/tdnn/decode_dev_tg_lstm_4bit
#
# <lm> is a directory of `mpq lm train` or `mpq fit`, or a file of `mpq pack`. Graph costs of the N best paths of every
# lattice become g - weight * OLD + weight * LM, OLD being the LM in the lattices (G.carpa, else G.fst, of <old-lang>);
# acoustic costs, transition-ids and keys stay. One job per lat.n.gz of <in-decode-dir>, from any Kaldi recipe directory;
# then local/score.sh. A lattice that cannot be rescored goes through unchanged and is named in the log.
# Exit: 0 done; 1 anything else (inputs, jobs, scoring).

# Begin configuration section.
N=10  # paths per lattice
inv_acwt=10  # 1 / acoustic scale for choosing them
cmd=  # job runner: run.pl, queue.pl, slurm.pl, ... with its options [run.pl where there is one, else our own]
use_phi=false  # old LM: back off only where it must; false: its cheapest path, as Kaldi's default
test=false  # write the N best with their scores unchanged: a check of the plumbing; no scoring
stage=1  # Kaldi's stages 1 to 8 are one here; 9: only score
skip_scoring=false  # do not call local/score.sh
require_scoring=false  # fail where there is no local/score.sh
keep_ali=true  # keep transition-ids; without them there are no word times
old_lm=auto  # auto, fst, carpa, or a file
batch_tokens=8192  # distinct histories in memory at a time
threads=1  # CPU threads of a job
device=auto  # cpu, cuda, auto
strict=false  # fail, after everything is written, if a lattice went through unchanged
# End configuration section.
set -euo pipefail

echo "$0 $*"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Recipes' path.sh are not written for set -u.
# shellcheck disable=SC1091
if [ -f ./path.sh ]; then set +eu; . ./path.sh; set -eu; fi
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"

complain() { # on stderr, and where that is not the same place on stdout, as Kaldi's scripts do
  echo "$0: $*" >&2
  if ! { [ -t 1 ] && [ -t 2 ]; }; then echo "$0: $*"; fi
}
fail() { complain "$*"; exit 1; }

if [ $# != 6 ]; then
  sed -n '/^# usage/,/^#$/s/^# \{0,1\}//p' "$0"
  echo "Options: $0 --help"
  exit 1
fi
weight=$1 old_lang=$2 lm=$3 data=$4 in=$5 out=$6

missing=()
for path in "$old_lang/words.txt" "$lm" "$in/num_jobs"; do [ -e "$path" ] || missing+=("$path"); done
case "$old_lm" in
  auto) [ -e "$old_lang/G.carpa" ] || [ -e "$old_lang/G.fst" ] || missing+=("$old_lang/G.fst (or G.carpa)") ;;
  fst | carpa) [ -e "$old_lang/G.$old_lm" ] || missing+=("$old_lang/G.$old_lm") ;;
  *) [ -e "$old_lm" ] || missing+=("$old_lm") ;;
esac
if [ -d "$lm" ]; then
  for path in "$lm/config.json" "$lm/model.safetensors" "$lm/words.txt"; do [ -e "$path" ] || missing+=("$path"); done
fi
nj=0
if [ -e "$in/num_jobs" ]; then
  nj=$(tr -d '[:space:]' < "$in/num_jobs")
  [[ $nj =~ ^[1-9][0-9]*$ ]] || fail "$in/num_jobs holds no positive number but '$nj'"
  for n in $(seq "$nj"); do [ -e "$in/lat.$n.gz" ] || missing+=("$in/lat.$n.gz"); done
fi
scoring=true
if [ "$skip_scoring" = true ] || [ "$test" = true ]; then scoring=false; fi
if [ "$scoring" = true ] && [ -x local/score.sh ] && [ ! -d "$data" ]; then missing+=("$data"); fi
if [ ${#missing[@]} -gt 0 ]; then fail "missing ${#missing[@]} input(s): ${missing[*]}"; fi
if ! awk -v w="$weight" 'BEGIN { exit !(w ~ /^[0-9]*\.?[0-9]+$/ && w <= 1) }'; then
  fail "the weight is a number from 0 to 1, not '$weight'"
fi
if [[ "$old_lang $lm $in $out" == *JOB* ]]; then fail "a path with JOB in its name would be changed by the job runner"; fi
mkdir -p "$out"
if [ "$(cd "$in" && pwd -P)" = "$(cd "$out" && pwd -P)" ]; then fail "output directory is the input directory: $in"; fi

can_run() { [ -x "$(type -P "$1")" ]; } # bash names files of PATH that are not executable too
if [ -z "$cmd" ]; then
  if can_run run.pl; then cmd=run.pl
  elif [ -x utils/run.pl ]; then cmd=utils/run.pl
  else cmd=$here/run_jobs.sh; fi
elif ! can_run "${cmd%% *}"; then
  complain "no ${cmd%% *}: running the jobs here, with $here/run_jobs.sh"
  cmd=$here/run_jobs.sh
fi

report_failure() { # the last error lines of every log that does not end well
  local log
  for log in "$out"/log/rescore_nbest.*.log; do
    if [ -f "$log" ] && ! tail -n 1 "$log" | grep -q 'Ended (code 0)'; then
      echo "$0: from $log:" >&2
      { grep -E '^(ERROR|Traceback|[A-Za-z.]*Error)|: (command not found|No such file)' "$log" || grep -v '^#' "$log"; } | tail -n 5 >&2
    fi
  done
}

# shellcheck source=local/find_mpq.sh
. "$here/find_mpq.sh"

if [ "$stage" -le 8 ]; then
  rm -f "$out/.done"
  echo "$nj" > "$out/num_jobs"
  for old in "$out"/lat.*.gz; do # of an earlier run with more jobs: scorers read all that match
    n=${old##*/lat.} n=${n%.gz}
    if [[ $n =~ ^[0-9]+$ ]] && [ "$n" -gt "$nj" ]; then rm -f "$old"; fi
  done
  options=(--n "$N" --inv-acwt "$inv_acwt" --use-phi "$use_phi" --test "$test" --keep-ali "$keep_ali" --threads "$threads")
  options+=(--device "$device" --batch-tokens "$batch_tokens" --strict "$strict" --weight "$weight")
  if [ "$test" = false ]; then options+=(--lm "$lm" --old-lang "$old_lang" --old-lm "$old_lm"); fi
  # shellcheck disable=SC2086
  if ! $cmd JOB=1:"$nj" "$out/log/rescore_nbest.JOB.log" \
      "$MPQ_PYTHON" -m kaldi_mpq.cli rescore nbest "${options[@]}" --job JOB "$in" "$out" '&&' \
      "$MPQ_PYTHON" "$here/lattice_keys.py" "$in/lat.JOB.gz" "$out/lat.JOB.gz"; then
    report_failure
    fail "rescoring failed, see $out/log/rescore_nbest.*.log"
  fi
  grep -hE '^WARNING|utterances in,' "$out"/log/rescore_nbest.*.log | sort | uniq -c | sort -rn | head -n 20 || true
  touch "$out/.done"
fi

if [ "$scoring" = true ]; then
  if [ -x local/score.sh ]; then
    local/score.sh --cmd "$cmd" "$data" "$old_lang" "$out" || fail "scoring failed: local/score.sh $data $old_lang $out"
  elif [ "$require_scoring" = true ]; then
    fail "no executable local/score.sh here"
  else
    complain "no executable local/score.sh here: not scored"
  fi
fi
