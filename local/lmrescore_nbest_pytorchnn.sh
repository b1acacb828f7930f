#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# N-best rescoring with a PyTorch LM, called as Kaldi's steps/pytorchnn/lmrescore_nbest_pytorchnn.sh is.
#
# usage: lmrescore_nbest_pytorchnn.sh [options] <old-lang> <model> <vocab> <data> <in-decode-dir> <out-decode-dir>
#   e.g. lmrescore_nbest_pytorchnn.sh --N 100 --nhead 8 data/lang_tg exp/transformer/model.pt \
#          data/lang_tg/words.txt data/dev exp/chain/tdnn/decode_dev_tg exp/chain/tdnn/decode_dev_tg_transformer
#
# <model> is the model.pt that steps/pytorchnn/train.py wrote, with <vocab>, the words.txt that it was trained with; it
# is imported into <out-decode-dir>/lm first. An LM directory or a model.mpq of kaldi_mpq may stand there too; <vocab>
# is not read then. Graph costs of the N best paths of every lattice become g - weight * OLD + weight * LM; then
# local/score.sh.
# Exit: 0 done; 1 anything else (inputs, jobs, scoring).

# Begin configuration section.
# shellcheck disable=SC2034  # some are accepted only
cmd=  # job runner: run.pl, queue.pl, slurm.pl, ... with its options [run.pl where there is one, else our own]
N=10  # paths per lattice
inv_acwt=10  # 1 / acoustic scale for choosing them
weight=0.8  # of the new LM against the old one, 0 to 1
use_phi=false  # old LM: back off only where it must; false: its cheapest path, as Kaldi's default
test=false  # write the N best with their scores unchanged: a check of the plumbing; no scoring
keep_ali=true  # keep transition-ids; without them there are no word times
nhead=8  # Transformer: attention heads, the one size that model.pt does not hold
oov_symbol="<unk>"  # word of <vocab> for unknown words, with or without quotes of its own
model_type=  # accepted, and so are the next three: model.pt says what it is
embedding_dim=  # see --model-type
hidden_dim=  # see --model-type
nlayers=  # see --model-type
old_lm=auto  # the LM in the lattices: fst, carpa, or a file; auto: G.carpa, else G.fst
batch_tokens=8192  # distinct histories in memory at a time
threads=1  # CPU threads of a job
device=auto  # cpu, cuda, auto
rescore_opts=  # further options of mpq rescore, in one word: "--keep-scores true"
strict=false  # fail, after everything is written, if a lattice went through unchanged
stage=1  # Kaldi's stages 1 to 8 are one here; 9: only score
skip_scoring=false  # do not call local/score.sh
require_scoring=false  # fail where there is no local/score.sh
# End configuration section.
set -euo pipefail
# shellcheck source=local/rescore_call.sh
. "$(dirname "${BASH_SOURCE[0]}")/rescore_call.sh"
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"

[ $# = 6 ] || usage
old_lang=$1 lm=$2 vocab=$3 data=$4 in=$5 out=$6
check_call carpa
# shellcheck source=local/rescore_jobs.sh
. "$here/rescore_jobs.sh"
if [ "$stage" -le 8 ]; then
  rescore_nbest
fi
score_output
