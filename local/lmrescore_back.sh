#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rescoring of Kaldi lattices with a backward LM of kaldi_mpq, called as Kaldi's rnnlm/lmrescore_back.sh is.
#
# usage: lmrescore_back.sh [options] <old-lang> <lm> <data> <in-decode-dir> <out-decode-dir>
#   e.g. lmrescore_pruned.sh --weight 0.45 data/lang_tg exp/lstm data/dev \
#          exp/chain/tdnn/decode_dev_tg exp/chain/tdnn/decode_dev_tg_forward
#        lmrescore_back.sh --weight 0.45 data/lang_tg exp/lstm_backward data/dev \
#          exp/chain/tdnn/decode_dev_tg_forward exp/chain/tdnn/decode_dev_tg_both
#
# <in-decode-dir> is the output of rescoring with a forward LM; from its graph costs weight * OLD goes once more, so
# that 1 - 2 * weight of the old LM is left. <lm> is of `mpq lm train --backward true`, or `mpq fit` or `mpq pack` of
# that, or a Kaldi RNNLM directory trained on reversed text, which is imported into <out-decode-dir>/lm first. Then
# local/score.sh.
# Exit: 0 done; 1 anything else (inputs, jobs, scoring).

# Begin configuration section.
cmd=  # job runner: run.pl, queue.pl, slurm.pl, ... with its options [run.pl where there is one, else our own]
weight=0.5  # of the new LM against the old one, 0 to 1
max_ngram_order=4  # LM states with the same next order - 1 words are one; 0 or less: only with the same future
exact=true  # compose without pruning, as Kaldi's script; false: as lmrescore_pruned.sh, for large lattices
normalize=false  # Kaldi RNNLM: make its probabilities add up to one; ours always do
old_lm=auto  # the LM in the lattices: fst, carpa, or a file; auto: G.fst, else G.carpa
batch_tokens=32768  # LM states in memory at a time
threads=1  # CPU threads of a job
device=auto  # cpu, cuda, auto
rescore_opts=  # further options of mpq rescore, in one word: "--keep-scores true"
strict=false  # fail, after everything is written, if a lattice went through unchanged
text=false  # text lattices, as Kaldi's script writes; false: binary, smaller and exact
stage=1  # 1: rescore and score; 2: only score
skip_scoring=false  # do not call local/score.sh
require_scoring=false  # fail where there is no local/score.sh
# End configuration section.
set -euo pipefail
# shellcheck source=local/rescore_call.sh
. "$(dirname "${BASH_SOURCE[0]}")/rescore_call.sh"
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"

[ $# = 5 ] || usage
old_lang=$1 lm=$2 data=$3 in=$4 out=$5 backward=true
check_call fst
# shellcheck source=local/rescore_jobs.sh
. "$here/rescore_jobs.sh"
if [ "$stage" -le 1 ]; then
  rescore_lattices --check-old-lm false --backward true --exact "$exact"
fi
score_output
