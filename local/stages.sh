# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# Sourced: `in_stage N what` says whether stage N lies between $stage and $stop_stage, and on stderr what begins and how
# long the stage before took; `stages_end` says it of the last one. `conf lm/lstm_1a` prints a recipe's YAML file of that
# name.

say() { echo "$(date +%H:%M:%S) $*" >&2; }
fail() { echo "run.sh: $*" >&2; exit 1; }

conf() { # what a recipe does not have, AMI's has; needs $here and $recipe_dir
  if [ -f "$recipe_dir/conf/$1.yaml" ]; then echo "$recipe_dir/conf/$1.yaml"; else echo "$here/../recipes/ami/conf/$1.yaml"; fi
}

_mpq_stage="" _mpq_began=0
stages_end() {
  if [ -n "$_mpq_stage" ]; then say "stage $_mpq_stage took $((SECONDS - _mpq_began)) s"; fi
  _mpq_stage=""
}

in_stage() { # number, what it makes
  if [ "$1" -lt "$stage" ] || [ "$1" -gt "$stop_stage" ]; then return 1; fi
  stages_end
  _mpq_stage=$1 _mpq_began=$SECONDS
  say "stage $1: $2"
}
