#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Penn Treebank, text only: perplexity and bytes of every method beside the papers' table. Results: RESULTS.md.
#
#   bash run.sh --ptb-dir ~/simple-examples/data      # Mikolov's ptb.{train,valid,test}.txt; --help lists every option
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

settings=(
  --recipe-dir "$recipe"
  --lms "transformer_1a lstm_1a"
  --sweeps "ptb_1a"
  --order 5
  --document 40
  --results "$recipe/RESULTS.md"
)
exec "$recipe/../../local/ptb_pipeline.sh" "${settings[@]}" -- "$@"
