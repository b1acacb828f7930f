#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The mini recipe: makes a Kaldi recipe directory with speech, acoustic model and lattices of its own, then the stages
# of all recipes (local/pipeline.sh of the project) on it.
#
# usage: run.sh [options]
#   e.g. run.sh --lm "lstm transformer" --nj 2
#
#   -5 text   -4 speech, features   -3 acoustic model   -2 lexicon, n-gram, decoding graph   -1 lattices
#   0 check inputs   1 text for LMs   2 n-gram   3 float LMs   4 quantize   5 pack   6 rescore   7 score, table, pictures
# A stage skips what is finished, so the same command goes on after an interruption. The sets are in OUT/kaldi/data, lattices
# in OUT/kaldi/exp/chain/tdnn.

# Begin configuration section.
stage=-5  # first stage
stop_stage=7  # last stage
lm=lstm  # lstm, transformer, or both, a list
full=false  # LMs of real sizes on all of the text, all widths, searches by KL and Hessian: hours
small=false  # everything tiny, for continuous integration: its numbers mean nothing
train_am=false  # train the acoustic model again instead of taking the committed one: under an hour
nj=  # jobs at a time [number of processors]
out=  # where everything is written [the recipe's own directory]
recipe_dir=  # the recipe: conf/, RESULTS.md (run.sh gives it)
test=300  # utterances each of dev and eval
am_train=3000  # utterances to train the acoustic model on
vocabulary=8000  # words
snr="5 15"  # least and greatest signal-to-noise ratio of dev and eval, dB
lm_utterances=  # utterances of training text for LMs and n-grams, 0: all [40000; full: 0]
first_pass="3-gram first pass"  # what the table calls the lattices as they are
order=3  # of the n-gram
bits=  # widths to quantize to; x16: a width for each part of a file 16 times smaller [x16; full: 8 4 2 1 x16]
search=kl_1a  # configuration in conf/search
rescore="nbest lattice"  # how, a list: nbest, nbest20, lattice
N=  # paths per lattice [50; full: 100]
weight=0.5  # of the new LM against the old one
results=  # files whose table is replaced with --write-results true
write_results=false  # do that
# End configuration section.
set -euo pipefail
local=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
here=$(cd "$local/../../../local" && pwd)
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"  # the recipe's settings, up to --
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"  # the user's
# shellcheck source=local/stages.sh
. "$here/stages.sh"
# shellcheck source=local/fresh.sh
. "$here/fresh.sh"

# shellcheck source=local/env/debian.sh
. "$here/env/debian.sh"

[ $# = 0 ] || fail "unexpected argument: $1"
[ -n "$recipe_dir" ] || fail "call recipes/mini/run.sh"
if [ "$full" = true ] && [ "$small" = true ]; then fail "--full true and --small true are two things"; fi
for name in $lm; do [[ $name =~ ^(lstm|transformer)$ ]] || fail "--lm is a list of lstm and transformer, not $name"; done
of_size() { if [ "$full" = true ]; then echo "$3"; elif [ "$small" = true ]; then echo "$1"; else echo "$2"; fi; }
suffix=$(of_size _tiny _mini _1a)
if [ "$small" = true ]; then test=12 vocabulary=1000 am_train=200; fi
lm_utterances=${lm_utterances:-$(of_size 2000 40000 0)}
bits=${bits:-$(of_size x16 x16 "8 4 2 1 x16")}
N=${N:-$(of_size 10 50 100)}
nj=${nj:-$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2> /dev/null || echo 1)}
mkdir -p "${out:=$recipe_dir}"
out=$(cd "$out" && pwd)
# shellcheck source=local/find_mpq.sh
. "$here/find_mpq.sh"
export OMP_NUM_THREADS=1
kaldi=$out/kaldi
data=$kaldi/data lang=$kaldi/data/lang am_dir=$kaldi/exp/chain/tdnn
weights=$recipe_dir/am/am.safetensors
if [ "$train_am" = true ]; then weights=$am_dir/am.safetensors; fi
jobs=$(of_size 1 2 4)

py() { "$MPQ_PYTHON" "$local/$1.py" "${@:2}"; }
same_as() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; } # was it made with these settings?

free_mb=$(of_size 200 600 3000)
speech=false
if [ "$stage" -le -4 ] && [ "$stop_stage" -ge -4 ]; then speech=true; fi
if [ "$speech" = true ]; then want_espeak; fi
if [ "$stage" -lt 0 ]; then py preflight --speech "$speech" --free-mb "$free_mb" "$out"; fi

text_settings="test $test am_train $am_train vocabulary $vocabulary"
if in_stage -5 "text: conversations of chitchat-dataset, split into train, dev and eval"; then
  if ! same_as "$data/.settings" "$text_settings"; then
    py prepare_text --test "$test" --am-train "$am_train" --vocabulary "$vocabulary" "$data"
    echo "$text_settings" > "$data/.settings"
  fi
fi

sets="dev eval"
if [ "$train_am" = true ]; then sets="am_train dev eval"; fi
if in_stage -4 "speech: espeak-ng says $sets, $snr dB of noise, filter banks"; then
  for set in $sets; do
    voices=false range=$snr
    if [ "$set" = am_train ]; then voices=true range="5 20"; fi
    fresh "$data/$set/cuts.jsonl.gz" "$data/$set/text" && same_as "$data/$set/.snr" "$range" && continue
    py speak_set --train "$voices" --jobs "$nj" "$data/$set"
    # shellcheck disable=SC2086 # two numbers
    py features --snr $range --seed 1 "$data/$set"
    echo "$range" > "$data/$set/.snr"
  done
fi

if in_stage -3 "acoustic model: $weights"; then
  if [ "$train_am" = true ]; then
    fresh "$weights" "$data/am_train/cuts.jsonl.gz" || py train_am --threads "$nj" "$data/am_train" "$am_dir"
  elif [ ! -f "$weights" ]; then
    fail "no $weights; --train-am true makes one, in less than an hour"
  fi
fi

if in_stage -2 "graph: lexicon, pruned $order-gram of $lm_utterances utterances, H o L o G"; then
  fresh "$lang/words.txt" "$data/local/vocabulary" || py prepare_lang "$data/local/vocabulary" "$lang"
  part=$data/train_graph/text
  if ! fresh "$kaldi/exp/ngram/pruned.arpa.gz" "$lang/words.txt" "$data/train/text"; then
    mkdir -p "${part%/*}"
    if [ "$lm_utterances" = 0 ]; then cp "$data/train/text" "$part"; else head -n "$lm_utterances" "$data/train/text" > "$part"; fi
    mpq lm ngram --text "$part" --words "$lang/words.txt" --order "$order" "$kaldi/exp/ngram/whole.arpa.gz" >&2
    py prune_ngram "$kaldi/exp/ngram/whole.arpa.gz" "$kaldi/exp/ngram/pruned.arpa.gz"
  fi
  fresh "$am_dir/HLG.pt" "$kaldi/exp/ngram/pruned.arpa.gz" || py decoding_graph "$lang" "$kaldi/exp/ngram/pruned.arpa.gz" "$am_dir/HLG.pt"
fi

if in_stage -1 "lattices: $am_dir/decode_dev, decode_eval, $jobs jobs each"; then
  py model_dir "$am_dir"
  for set in dev eval; do
    dir=$am_dir/decode_$set
    fresh "$dir/num_jobs" "$weights" "$am_dir/HLG.pt" "$data/$set/cuts.jsonl.gz" && continue
    "$here/run_jobs.sh" --max-jobs-run "$nj" JOB=1:"$jobs" "$dir/log/decode.JOB.log" \
      "$MPQ_PYTHON" "$local/decode.py" --am "$weights" --graph "$am_dir/HLG.pt" --job JOB --jobs "$jobs" "$data/$set" "$dir" \
      || fail "$(tail -n 3 "$dir"/log/decode.*.log | grep -m 1 '^decode.py' || echo "decoding failed, logs are $dir/log/decode.*.log")"
    echo "$jobs" > "$dir/num_jobs"
  done
fi
stages_end

if [ "$stop_stage" -lt 0 ]; then exit; fi

lms=""
for name in $lm; do lms+="$name$suffix "; done
if [ "$stage" -lt 0 ]; then stage=0; fi
settings=(
  --kaldi-dir "$kaldi" --out "$out" --recipe-dir "$recipe_dir" --train-text data/train/text --lang data/lang
  --decode exp/chain/tdnn/decode_%s --first-pass "$first_pass" --order "$order" --lms "${lms% }" --fit "ste$suffix"
  --bits "$bits" --search "$search" --rescore "$rescore" --N "$N" --weight "$weight" --max-train "$lm_utterances" --nj "$nj"
  --results "$results"
)
# LMs are trained one at a time, on all processors.
env -u OMP_NUM_THREADS "$here/pipeline.sh" "${settings[@]}" -- --stage "$stage" --stop-stage "$stop_stage" --write-results "$write_results"
if [ "$stop_stage" -ge 7 ]; then
  say "pictures: $out/exp/score/wer.png, $out/exp/search/*/bits.png"
fi
