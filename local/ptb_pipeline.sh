#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Text only: three plain files of words, as Mikolov's Penn Treebank has them, to a table of perplexities and bytes.
#
# usage: run.sh --ptb-dir DIR [options]
#   e.g. run.sh --ptb-dir ~/simple-examples/data --lms lstm_1a --nj 4
#
# DIR holds ptb.train.txt, ptb.valid.txt and ptb.test.txt: a sentence a line, rare words already <unk>. Nothing is
# written there, and none of its text into results. Stages:
#   0 check inputs   1 text   2 n-gram   3 float LMs   4 search, fit, pack, measure (local/sweep.sh)   5 table
# A stage skips what is finished, so the same command goes on after an interruption.

# Begin configuration section.
stage=0  # first stage
stop_stage=5  # last stage
ptb_dir=  # directory of the three files
out=  # where data/ and exp/ are written [the recipe's own directory]
recipe_dir=  # the recipe: conf/, RESULTS.md (run.sh gives it)
lms="transformer_1a lstm_1a"  # configurations in conf/lm
sweeps=ptb_1a  # configurations in conf/sweep
order=5  # of the n-gram
document=40  # sentences that follow each other as one conversation: the files do not say where articles end
seeds=  # of the sweep, instead of the configuration's, with commas between
only=  # cells to run: names with * and ?, with commas between
nj=1  # cells at a time
cmd=  # job runner: "queue.pl --mem 4G", slurm.pl [local/run_jobs.sh]
threads=1  # CPU threads of a job
device=auto  # cpu, cuda, auto
results=  # file whose lines between <!-- sweep:start --> and <!-- sweep:end --> are replaced
write_results=false  # do that
# End configuration section.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"  # the recipe's settings, up to --
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"  # the user's
# shellcheck source=local/stages.sh
. "$here/stages.sh"
# shellcheck source=local/fresh.sh
. "$here/fresh.sh"

[ $# = 0 ] || fail "unexpected argument: $1"
[ -n "$recipe_dir" ] || fail "call a recipe's run.sh"
[ -n "$ptb_dir" ] || fail "where is the text? --ptb-dir DIR with ptb.train.txt, ptb.valid.txt, ptb.test.txt (--help for more)"
recipe_dir=$(cd "$recipe_dir" && pwd)
[ -d "$ptb_dir" ] || fail "no such directory: $ptb_dir"
ptb_dir=$(cd "$ptb_dir" && pwd)
if [ -n "$results" ]; then results=$(realpath "$results"); fi
mkdir -p "${out:=$recipe_dir}"
# shellcheck source=local/find_mpq.sh
. "$here/find_mpq.sh"
cd "$out"
exec 3>&1 1>&2  # stdout is the table's alone

# Kaldi text of a plain one: ids ptb00001-000001, whose part before the - is the conversation.
kaldi_text() { # plain text, Kaldi text
  mkdir -p "${2%/*}"
  awk -v size="$document" 'NF { $1 = $1; printf "ptb%05d-%06d %s\n", n / size, n, $0; n++ }' "$1" > "$2.tmp"
  mv "$2.tmp" "$2"
}

words_txt() { # Kaldi text, words.txt: every word of it, and Kaldi's symbols
  { echo "<eps>"; echo "<unk>"
    cut -d ' ' -f 2- "$1" | tr ' ' '\n' | LC_ALL=C sort -u | grep -vxF -e "<unk>" -e ""
    printf '%s\n' "#0" "<s>" "</s>"
  } | awk '{ print $1, NR - 1 }' > "$2.tmp"
  mv "$2.tmp" "$2"
}

if in_stage 0 "check inputs"; then
  missing=()
  for path in "$ptb_dir"/ptb.{train,valid,test}.txt; do [ -s "$path" ] || missing+=("$path"); done
  for lm in $lms; do [ -f "$(conf "lm/$lm")" ] || missing+=("$(conf "lm/$lm")"); done
  for sweep in $sweeps; do [ -f "$(conf "sweep/$sweep")" ] || missing+=("$(conf "sweep/$sweep")"); done
  if [ ${#missing[@]} -gt 0 ]; then
    printf 'run.sh: missing or empty:\n' >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
  fi
fi

if in_stage 1 "text: data/lm"; then
  if ! fresh data/lm/stats.json "$ptb_dir"/ptb.{train,valid,test}.txt; then
    for set in train valid test; do kaldi_text "$ptb_dir/ptb.$set.txt" "data/$set/text"; done
    words_txt data/train/text data/words.txt
    mpq text --words data/words.txt --train data/train/text --dev data/valid/text --test test=data/test/text data/lm
  fi
fi

if in_stage 2 "n-gram: exp/ngram"; then
  if ! fresh exp/ngram/ppl.json data/lm/stats.json; then
    mpq lm ngram --text data/train/text --words data/words.txt --order "$order" exp/ngram/lm.arpa.gz
    "$MPQ_PYTHON" "$here/ngram_ppl.py" data/words.txt exp/ngram/lm.arpa.gz exp/ngram/ppl.json \
      dev=data/valid/text test=data/test/text
  fi
fi

if in_stage 3 "float LMs: $lms"; then
  for lm in $lms; do
    fresh "exp/$lm/ppl.json" data/lm/stats.json "$(conf "lm/$lm")" && continue
    mpq lm train --config "$(conf "lm/$lm")" --data data/lm --device "$device" --threads "$threads" "exp/$lm"
  done
fi

sweep_options=(--recipe-dir "$recipe_dir" --out . --lms "$lms" --sweeps "$sweeps" --seeds "$seeds" --only "$only" --nj "$nj"
  --threads "$threads" --device "$device" --results "$results")
if [ -n "$cmd" ]; then sweep_options+=(--cmd "$cmd"); fi

if in_stage 4 "sweep: $sweeps"; then
  "$here/sweep.sh" "${sweep_options[@]}" > /dev/null  # it tells the log how each cell went
fi

if in_stage 5 "table"; then
  "$here/sweep.sh" "${sweep_options[@]}" --table-only true --write-results "$write_results" >&3
fi
stages_end
