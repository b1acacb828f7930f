#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Pruned rescoring of Kaldi lattices with an LM of kaldi_mpq, called as Kaldi's rnnlm/lmrescore_pruned.sh is.
#
# usage: lmrescore_pruned.sh [options] <old-lang> <lm> <data> <in-decode-dir> <out-decode-dir>
#   e.g. lmrescore_pruned.sh --weight 0.5 data/lang_tg exp/lstm_4bit/model.mpq data/dev \
#          exp/chain/tdnn/decode_dev_tg exp/chain/tdnn/decode_dev_tg_lstm_4bit
#
# <lm> is a directory of `mpq lm train` or `mpq fit`, a file of `mpq pack`, a Kaldi RNNLM directory, which is imported
# into <out-decode-dir>/lm first, or a fusion.yaml of several LMs with their weights. Graph costs become g - weight * OLD + weight * LM, OLD being the LM in the
# lattices; acoustic costs, transition-ids and keys stay. One job per lat.n.gz of <in-decode-dir>, from any Kaldi recipe
# directory; then local/score.sh. A lattice that cannot be rescored goes through unchanged and is named in the log.
# Exit: 0 done; 1 anything else (inputs, jobs, scoring).

# Begin configuration section.
cmd=  # job runner: run.pl, queue.pl, slurm.pl, ... with its options [run.pl where there is one, else our own]
weight=0.5  # of the new LM against the old one, 0 to 1
max_ngram_order=4  # LM states with the same last order - 1 words are one; 0 or less: only with the same history
lattice_prune_beam=8  # beam of the pruned composition
acwt=0.1  # acoustic scale, for pruning only
max_arcs=  # most arcs of a rescored lattice [100000]
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
old_lang=$1 lm=$2 data=$3 in=$4 out=$5
check_call fst
# shellcheck source=local/rescore_jobs.sh
. "$here/rescore_jobs.sh"
if [ "$stage" -le 1 ]; then
  rescore_lattices --acwt "$acwt" --lattice-prune-beam "$lattice_prune_beam" --max-arcs "${max_arcs:-100000}"
fi
score_output
