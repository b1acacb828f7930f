#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rescoring of Kaldi lattices with a PyTorch LM, called as Kaldi's steps/pytorchnn/lmrescore_lattice_pytorchnn.sh is.
#
# usage: lmrescore_lattice_pytorchnn.sh [options] <old-lang> <model> <vocab> <data> <in-decode-dir> <out-decode-dir>
#   e.g. lmrescore_lattice_pytorchnn.sh --nhead 8 data/lang_tg exp/transformer/model.pt \
#          data/lang_tg/words.txt data/dev exp/chain/tdnn/decode_dev_tg exp/chain/tdnn/decode_dev_tg_transformer
#
# <model> is the model.pt that steps/pytorchnn/train.py wrote, with <vocab>, the words.txt that it was trained with; it
# is imported into <out-decode-dir>/lm first. An LM directory or a model.mpq of kaldi_mpq may stand there too; <vocab>
# is not read then. Graph costs become g - weight * OLD + weight * LM by pruned composition, where each path has the
# LM's probability of its own words (histories of max-ngram-order - 1 words merged), not that of another path that
# shares an arc; then local/score.sh.
# Exit: 0 done; 1 anything else (inputs, jobs, scoring).

# Begin configuration section.
# shellcheck disable=SC2034  # some are accepted only
cmd=  # job runner: run.pl, queue.pl, slurm.pl, ... with its options [run.pl where there is one, else our own]
weight=0.8  # of the new LM against the old one, 0 to 1
beam=5  # beam of the pruned composition
inv_acwt=10  # 1 / acoustic scale, for pruning only
max_ngram_order=4  # LM states with the same last order - 1 words are one; 0 or less: only with the same history
max_arcs=  # most arcs of a rescored lattice [100000]
epsilon=  # accepted and not needed: nothing is expanded before rescoring
nhead=8  # Transformer: attention heads, the one size that model.pt does not hold
oov_symbol="<unk>"  # word of <vocab> for unknown words, with or without quotes of its own
model_type=  # accepted, and so are the next three: model.pt says what it is
embedding_dim=  # see --model-type
hidden_dim=  # see --model-type
nlayers=  # see --model-type
old_lm=auto  # the LM in the lattices: fst, carpa, or a file; auto: G.carpa, else G.fst
batch_tokens=32768  # LM states in memory at a time
threads=1  # CPU threads of a job
device=auto  # cpu, cuda, auto
rescore_opts=  # further options of mpq rescore, in one word: "--keep-scores true"
strict=false  # fail, after everything is written, if a lattice went through unchanged
text=false  # text lattices, for reading them; false: binary, smaller and exact
stage=0  # Kaldi's stages 0 to 4 are one here; 5: only score
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
if [ "$stage" -le 4 ]; then
  acwt=$(awk -v k="$inv_acwt" 'BEGIN { if (k + 0 <= 0) exit 1; printf "%.9g", 1 / k }') ||
    fail "--inv-acwt is a number above 0, not '$inv_acwt'"
  rescore_lattices --acwt "$acwt" --lattice-prune-beam "$beam" --max-arcs "${max_arcs:-100000}"
fi
score_output
