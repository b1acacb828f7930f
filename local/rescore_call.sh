# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by the lmrescore scripts, first of all: the opening lines of a Kaldi script, then functions that check a call
# before anything is written. They read the script's variables: old_lang lm vocab data in out weight, and those of its
# options. Not here: running anything (rescore_jobs.sh).

echo "$0 $*"
vocab="" backward=false # of some scripts only
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Recipes' path.sh are not written for set -u.
# shellcheck disable=SC1091
if [ -f ./path.sh ]; then set +eu; . ./path.sh; set -eu; fi

complain() { # on stderr, and where that is not the same place on stdout, as Kaldi's scripts do
  echo "$0: $*" >&2
  if ! { [ -t 1 ] && [ -t 2 ]; }; then echo "$0: $*"; fi
}
fail() { complain "$*"; exit 1; }

usage() { # of a wrong number of arguments
  sed -n '/^# usage/,/^#$/s/^# \{0,1\}//p' "$0"
  echo "Options: $0 --help"
  exit 1
}

missing=()
want() {
  local path
  for path in "$@"; do [ -e "$path" ] || missing+=("$path"); done
}

# What stands in the place of <lm>: ours (an LM directory or a model.mpq), rnnlm (a Kaldi RNNLM directory), fusion (a file
# of several LMs and their weights), or, for the scripts that have a <vocab>, pytorchnn (any other file).
lm_kind() {
  if [ -f "$lm/final.raw" ] && [ ! -f "$lm/config.json" ]; then echo rnnlm
  elif [[ $lm == *.yaml ]]; then echo fusion
  elif [ -n "$vocab" ] && [ ! -d "$lm" ] && [[ $lm != *.mpq ]]; then echo pytorchnn
  else echo ours; fi
}

want_lm() {
  if [ "$(lm_kind)" = rnnlm ]; then
    want "$lm/special_symbol_opts.txt" "$lm/config/words.txt"
    if [ ! -e "$lm/feat_embedding.final.mat" ]; then want "$lm/word_embedding.final.mat"
    elif [ ! -e "$lm/word_embedding.final.mat" ]; then want "$lm/word_feats.txt"; fi
  elif [ -d "$lm" ]; then
    want "$lm/config.json" "$lm/model.safetensors" "$lm/words.txt"
  else
    want "$lm"
  fi
  if [ -n "$vocab" ]; then want "$vocab"; fi
}

# Sets old_lm to fst, carpa or a file. $1: what Kaldi's script of this name takes where both are there; they disagree.
want_old_lm() {
  case "$old_lm" in
    fst | carpa) want "$old_lang/G.$old_lm"; return ;;
    auto) ;;
    *) want "$old_lm"; return ;;
  esac
  local other=carpa
  if [ "$1" = carpa ]; then other=fst; fi
  if [ -e "$old_lang/G.$1" ]; then old_lm=$1
  elif [ -e "$old_lang/G.$other" ]; then old_lm=$other
  else missing+=("$old_lang/G.fst (or G.carpa)"); return; fi
  echo "$0: the LM in the lattices is taken to be $old_lang/G.$old_lm"
  if [ -e "$old_lang/G.$1" ] && [ -e "$old_lang/G.$other" ]; then
    complain "WARNING: there is a G.$other too; if that is the LM in the lattices, say --old-lm $other"
  fi
}

want_lattices() { # sets nj
  nj=0
  want "$in/num_jobs"
  if [ ! -e "$in/num_jobs" ]; then return; fi
  nj=$(tr -d '[:space:]' < "$in/num_jobs")
  [[ $nj =~ ^[1-9][0-9]*$ ]] || fail "$in/num_jobs holds no positive number but '$nj'"
  local n archive
  for n in $(seq "$nj"); do want "$in/lat.$n.gz"; done
  for archive in "$in"/lat.*.gz; do
    n=${archive##*/lat.} n=${n%.gz}
    if [[ $n =~ ^[0-9]+$ ]] && [ "$n" -gt "$nj" ]; then
      fail "$in/num_jobs says $nj, but there is $archive: which of them is left from another decoding?"
    fi
  done
}

is_scored() { [ "$skip_scoring" = false ] && [ "${test:-false}" = false ]; }

check_output() { # is not the input, whole or in part
  if [[ "$old_lang $old_lm $lm $in $out" == *JOB* ]]; then
    fail "a path with JOB in its name would be changed by the job runner"
  fi
  if [ "$in" -ef "$out" ]; then fail "output directory is the input directory: $in"; fi
  local n
  for n in $(seq "$nj"); do
    if [ "$in/lat.$n.gz" -ef "$out/lat.$n.gz" ]; then fail "$out/lat.$n.gz and $in/lat.$n.gz are one file"; fi
  done
}

# All that can be known to be wrong before the jobs start, what is missing all at once. $1: as want_old_lm.
check_call() {
  want "$old_lang/words.txt"
  want_lm
  want_lattices
  want_old_lm "$1"
  if is_scored && [ -x local/score.sh ]; then want "$data"; fi
  if [ ${#missing[@]} -gt 0 ]; then fail "missing ${#missing[@]} input(s): ${missing[*]}"; fi
  if ! awk -v w="$weight" 'BEGIN { exit !(w ~ /^([0-9]+\.?[0-9]*|\.[0-9]+)([eE]-?[0-9]+)?$/ && w <= 1) }'; then
    fail "the weight is a number from 0 to 1, not '$weight'"
  fi
  check_output
}
