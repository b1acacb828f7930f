#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All stages from Kaldi text and lattices to a table of word error rates; every recipe's run.sh is settings and a call
# of this.
#
# usage: run.sh --kaldi-dir DIR [options]
#   e.g. run.sh --kaldi-dir ~/kaldi/egs/ami/s5b --lms lstm_1a --bits "4 2"
#
# DIR is a Kaldi recipe directory: text, a lang directory, decoded lattices. Nothing is written there. Stages:
#   0 check inputs   1 text   2 n-gram   3 float LMs   4 quantize   5 pack   6 rescore   7 score, table
# A stage skips what is finished, so the same command goes on after an interruption. Where an option is a list of paths,
# the first that exists in DIR is taken; %s stands for the name of a set.

# Begin configuration section.
stage=0  # first stage
stop_stage=7  # last stage
kaldi_dir=  # the Kaldi recipe directory
out=  # where data/ and exp/ are written [the recipe's own directory]
recipe_dir=  # the recipe: conf/, RESULTS.md (run.sh gives it)
quick=false  # all stages in two or three minutes: tiny LMs, one width, part of the text, one job of each set, N 20
train_text="data/train/text"  # Kaldi text to train on
lang="data/lang_tg"  # lang directory of the LM in the lattices
dev=dev  # set on which acoustic weight and penalty are chosen
evals="eval"  # sets to test on, a list
data="data/%s"  # data directory of a set
decode="exp/chain/tdnn/decode_%s_tg"  # lattices of a set
first_pass="n-gram first pass"  # what the table calls the lattices as they are
order=3  # of the n-gram
lms=  # configurations in conf/lm [lstm_1a transformer_1a; quick: the tiny ones]
fit=  # configuration in conf/fit [ste_1a; quick: ste_tiny]
bits=default  # widths to quantize to; x16: a width for each part of a file 16 times smaller ["8 4 2 1"; quick: 4]
search=kl_1a  # configuration in conf/search, for x16 and its like
rescore=  # how, a list: nbest (N paths), nbest20 (or any number), lattice (histories merged as 4-grams), lattice6 [nbest20 nbest lattice; quick: nbest]
N=  # paths per lattice [100; quick: 20]
weight=0.5  # of the new LM against the old one
score_mode=text  # text, or stm (with glm where there is one)
ignore_words=  # words that do not count, with commas between
max_train=  # utterances of training text, 0: all [0; quick: 1000]
max_jobs=  # jobs of each set to rescore, 0: all [0; quick: 1]
nj=  # jobs at a time on this machine [number of processors]
cmd=  # job runner instead: "run.pl --mem 4G", queue.pl, slurm.pl
threads=1  # CPU threads of a rescoring job
device=auto  # cpu, cuda, auto
results=  # files whose table between <!-- results:start --> and <!-- results:end --> is replaced, a list
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
absolute() { (cd "$1" 2> /dev/null && pwd) || fail "no such directory: $1"; }
unless_quick() { if [ "$quick" = true ]; then echo "$2"; else echo "$1"; fi; }

[ $# = 0 ] || fail "unexpected argument: $1"
[ -n "$recipe_dir" ] || fail "call a recipe's run.sh"
[ -n "$kaldi_dir" ] || fail "where are text and lattices? --kaldi-dir DIR, a Kaldi recipe directory (--help for more)"
kaldi_dir=$(absolute "$kaldi_dir") recipe_dir=$(absolute "$recipe_dir")
mkdir -p "${out:=$recipe_dir}"
out=$(absolute "$out")
if [ "$quick" = true ] && [ "$write_results" = true ]; then fail "results of --quick true are not worth writing"; fi
lms=${lms:-$(unless_quick "lstm_1a transformer_1a" "lstm_tiny transformer_tiny")}
fit=${fit:-$(unless_quick ste_1a ste_tiny)}
if [ "$bits" = default ]; then bits=$(unless_quick "8 4 2 1" 4); fi
N=${N:-$(unless_quick 100 20)}
rescore=${rescore:-$(unless_quick "nbest20 nbest lattice" nbest)}
max_train=${max_train:-$(unless_quick 0 1000)}
max_jobs=${max_jobs:-$(unless_quick 0 1)}
nj=${nj:-$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2> /dev/null || echo 1)}
cmd=${cmd:-$here/run_jobs.sh --max-jobs-run $nj}
# shellcheck source=local/fresh.sh
. "$here/fresh.sh"
# shellcheck source=local/pipeline_paths.sh
. "$here/pipeline_paths.sh"
# shellcheck source=local/find_mpq.sh
. "$here/find_mpq.sh"
cd "$out"
exec 3>&1 1>&2  # stdout is the table's alone

if in_stage 0 "check inputs"; then
  check_inputs
  for set in $dev $evals; do subset "$set"; make_stm "$set"; done
fi

if in_stage 1 "text: data/lm"; then
  if ! fresh data/lm/stats.json "$words" "$(text_of train)"; then
    tests=()
    for set in $(test_sets); do tests+=(--test "$set=$(text_of "$set")"); done
    mpq text --words "$words" --train "$(text_of train)" --dev "$(text_of "$dev")" "${tests[@]}" data/lm
  fi
fi

if in_stage 2 "n-gram: exp/ngram"; then
  if ! fresh exp/ngram/ppl.json data/lm/stats.json; then
    mpq lm ngram --text "$(text_of train)" --words "$words" --order "$order" exp/ngram/lm.arpa.gz
    texts=(dev="$(text_of "$dev")")
    for set in $(test_sets); do texts+=("$set=$(text_of "$set")"); done
    "$MPQ_PYTHON" "$here/ngram_ppl.py" "$words" exp/ngram/lm.arpa.gz exp/ngram/ppl.json "${texts[@]}"
  fi
fi

if in_stage 3 "float LMs: $lms"; then
  for lm in $lms; do
    fresh "exp/$lm/ppl.json" data/lm/stats.json "$(conf "lm/$lm")" && continue
    mpq lm train --config "$(conf "lm/$lm")" --data data/lm --device "$device" "exp/$lm"
  done
fi

if in_stage 4 "quantize to $bits bits by $fit"; then
  for lm in $lms; do
    for width in $bits; do
      dir=exp/$(quantized "$lm" "$width")
      fresh "$dir/ppl.json" "exp/$lm/model.safetensors" "$(conf "fit/$fit")" && continue
      precision=(--bits "$width")
      if is_ratio "$width"; then search_widths "$lm" "$width"; precision=(--precision "$(searched "$lm" "$width")/precision.json"); fi
      mpq fit --config "$(conf "fit/$fit")" "${precision[@]}" --data data/lm --device "$device" "exp/$lm" "$dir"
    done
  done
fi

if in_stage 5 "pack"; then
  for system in $(quantized_systems); do
    fresh "exp/$system/size.json" "exp/$system/quant.safetensors" || mpq pack "exp/$system" "exp/$system/model.mpq"
  done
fi

if in_stage 6 "rescore $dev $evals: $rescore, weight $weight"; then
  link_model
  for system in $lms $(quantized_systems); do
    for set in $dev $evals; do
      for method in $rescore; do
        dir=$(rescored "$set" "$system" "$method")
        fresh "$dir/.done" "$(model_file "$system")" "$(decode_of "$set")/num_jobs" && continue
        rescore_set "$set" "$system" "$method" "$dir"
      done
    done
  done
fi

if in_stage 7 "score"; then
  score first_pass first_pass
  ln -sfn "$(old_lm_file)" exp/ngram/old_lm  # whose bytes the table shows
  references=(--reference "$first_pass")
  rows=("$first_pass=exp/ngram,exp/score/$(scored first_pass first_pass),exp/ngram/old_lm")
  for lm in $lms; do
    if [ -n "$bits" ]; then references+=(--reference "$(label "$lm" float "${rescore##* }")"); fi
    for width in float $bits; do
      system=$(quantized "$lm" "$width")
      for method in $rescore; do
        score "$system" "$method"
        rows+=("$(label "$lm" "$width" "$method")=exp/$system,exp/score/$(scored "$system" "$method")")
      done
    done
  done
  print_table "${references[@]}" "${rows[@]}" >&3
fi
stages_end
say "stages $stage to $stop_stage took $SECONDS s"
