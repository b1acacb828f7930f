#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sweeps of methods, budgets, fits and seeds over float LMs that are there, and one table of all. Recipes call it.
#
# usage: sweep.sh --recipe-dir DIR --lms "lstm_small_1a" --sweeps "small_1a" [options]
#
# A sweep is conf/sweep/NAME.yaml; LM and sweep have a directory exp/sweep/LM_SWEEP of their own. Cells that have a row
# are not run again, so the same command goes on after an interruption. A cell that fails stops no other one; the status
# tells. The table is printed in any case, of what has finished.

# Begin configuration section.
recipe_dir=  # the recipe: conf/, results
out=  # where exp/ is [the recipe's own directory]
lms=  # LMs in exp/, a list
sweeps=  # configurations in conf/sweep, a list
data=data/lm  # directory that mpq text wrote, under --out
seeds=  # instead of the configuration's, with commas between
only=  # these cells only: names with * and ?, with commas between
nj=1  # cells at a time
cmd=  # job runner: "queue.pl --mem 4G", slurm.pl [local/run_jobs.sh]
threads=1  # CPU threads of a cell
device=auto  # cpu, cuda, auto
keep_weights=false  # keep each cell's float32 copy beside model.mpq
dry_run=false  # list the cells, run none
table_only=false  # run none, print the table
results=  # file whose lines between <!-- sweep:start --> and <!-- sweep:end --> are replaced
write_results=false  # do that
plot=exp/sweep/pareto.png  # picture of all of them, under --out
# End configuration section.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"  # the recipe's settings, up to --
# shellcheck source=local/parse_options.sh
. "$here/parse_options.sh"  # the user's

fail() { echo "sweep.sh: $*" >&2; exit 1; }
[ $# = 0 ] || fail "unexpected argument: $1"
if [ -z "$recipe_dir" ] || [ -z "$lms" ] || [ -z "$sweeps" ]; then fail "--recipe-dir, --lms and --sweeps are needed (--help)"; fi
recipe_dir=$(cd "$recipe_dir" && pwd)
if [ -n "$results" ]; then results=$(realpath "$results"); fi
case "$cmd" in ./*) cmd=$PWD/${cmd#./} ;; esac
# shellcheck source=local/find_mpq.sh
. "$here/find_mpq.sh"
cd "${out:-$recipe_dir}"

conf() { # what a recipe does not have, AMI's has
  local file
  for file in "$recipe_dir/conf/$1.yaml" "$here/../recipes/ami/conf/$1.yaml"; do
    if [ -f "$file" ]; then realpath --relative-to=. "$file"; return; fi
  done
  fail "no $recipe_dir/conf/$1.yaml"
}

options=(--data "$data" --nj "$nj" --threads "$threads" --device "$device" --keep-weights "$keep_weights" --dry-run "$dry_run")
if [ -n "$cmd" ]; then options+=(--cmd "$cmd"); fi
if [ -n "$seeds" ]; then options+=(--seeds "$seeds"); fi
if [ -n "$only" ]; then options+=(--only "$only"); fi
if [ -f exp/ngram/ppl.json ]; then options+=(--ngram exp/ngram); fi

failed=0
for sweep in $sweeps; do # all LMs of the first sweep come before the second one
  file=$(conf "sweep/$sweep")
  for lm in $lms; do
    if [ "$table_only" = true ]; then continue; fi
    if [ "$dry_run" = true ]; then mpq sweep --config "$file" "${options[@]}" "exp/$lm" "exp/sweep/${lm}_$sweep"; continue; fi
    mpq sweep --config "$file" "${options[@]}" "exp/$lm" "exp/sweep/${lm}_$sweep" > /dev/null || failed=$?
  done
done
if [ "$dry_run" = true ]; then exit 0; fi
dirs=()
for sweep in $sweeps; do
  for lm in $lms; do
    if [ -f "exp/sweep/${lm}_$sweep/sweep.json" ]; then dirs+=("exp/sweep/${lm}_$sweep"); fi
  done
done
[ ${#dirs[@]} -gt 0 ] || fail "nothing has been run yet"
table=(--plot "$plot")
if [ "$write_results" = true ]; then table+=(--into "$(realpath --relative-to=. "$results")"); fi
mpq sweep table "${table[@]}" "${dirs[@]}"
exit "$failed"
