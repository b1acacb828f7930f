#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# N-best rescoring of Kaldi lattices with an LM of kaldi_mpq, called as Kaldi's rnnlm/lmrescore_nbest.sh is.
#
# usage: lmrescore_nbest.sh [options] <weight> <old-lang> <lm> <data> <in-decode-dir> <out-decode-dir>
#   e.g. lmrescore_nbest.sh --N 100 0.5 data/lang_tg exp/lstm_4bit/model.mpq data/dev \
#          exp/chain/tdnn/decode_dev_tg exp/chain/tdnn/decode_dev_tg_lstm_4bit
#
# <lm> is a directory of `mpq lm train` or `mpq fit`, a file of `mpq pack`, a Kaldi RNNLM directory, which is imported
# into <out-decode-dir>/lm first, or a fusion.yaml of several LMs with their weights. Graph costs of the N best paths of every lattice become g - weight * OLD +
# weight * LM, OLD being the LM in the lattices (G.carpa, else G.fst, of <old-lang>); acoustic costs, transition-ids and
# keys stay. One job per lat.n.gz of <in-decode-dir>, from any Kaldi recipe directory; then local/score.sh. A lattice
# that cannot be rescored goes through unchanged and is named in the log.
# Exit: 0 done; 1 anything else (inputs, jobs, scoring).

# Begin configuration section.
N=10  # paths per lattice
inv_acwt=10  # 1 / acoustic scale for choosing them
cmd=  # job runner: run.pl, queue.pl, slurm.pl, ... with its options [run.pl where there is one, else our own]
use_phi=false  # old LM: back off only where it must; false: its cheapest path, as Kaldi's default
test=false  # write the N best with their scores unchanged: a check of the plumbing; no scoring
stage=1  # Kaldi's stages 1 to 8 are one here; 9: only score
keep_ali=true  # keep transition-ids; without them there are no word times
normalize=false  # Kaldi RNNLM: make its probabilities add up to one; ours always do
old_lm=auto  # the LM in the lattices: fst, carpa, or a file; auto: G.carpa, else G.fst
batch_tokens=8192  # distinct histories in memory at a time
threads=1  # CPU threads of a job
device=auto  # cpu, cuda, auto
rescore_opts=  # further options of mpq rescore, in one word: "--keep-scores true"
strict=false  # fail, after everything is written, if a lattice went through unchanged
skip_scoring=false  # do not call local/score.sh
require_scoring=false  # fail where there is no local/score.sh
# End configuration section.
set -euo pipefail
# shellcheck source=local/rescore_call.sh
. "$(dirname "${BASH_SOURCE[0]}")/rescore_call.sh"
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"

[ $# = 6 ] || usage
weight=$1 old_lang=$2 lm=$3 data=$4 in=$5 out=$6
check_call carpa
# shellcheck source=local/rescore_jobs.sh
. "$here/rescore_jobs.sh"
if [ "$stage" -le 8 ]; then
  rescore_nbest
fi
score_output
