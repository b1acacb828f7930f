# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# Sourced by the lmrescore scripts once the call is checked: import a model of Kaldi's, run a verb of mpq once per
# lat.n.gz, score. Functions read the script's variables, as in rescore_call.sh.

# shellcheck source=local/fresh.sh
. "$here/fresh.sh"

can_run() { [ -x "$(type -P "$1")" ]; } # bash names files of PATH that are not executable too
if [ -z "$cmd" ]; then
  if can_run run.pl; then cmd=run.pl
  elif [ -x utils/run.pl ]; then cmd=utils/run.pl
  else cmd=$here/run_jobs.sh; fi
elif ! can_run "${cmd%% *}"; then
  complain "no ${cmd%% *}: running the jobs here, with $here/run_jobs.sh"
  cmd=$here/run_jobs.sh
fi

show_errors() { # logs: the last error lines of each that does not end well
  local log
  for log in "$@"; do
    if [ -f "$log" ] && ! tail -n 1 "$log" | grep -q 'Ended (code 0)'; then
      echo "$0: from $log:" >&2
      { grep -E '^(ERROR|Traceback|[A-Za-z.]*Error)|: (command not found|No such file)' "$log" ||
        grep -v '^#' "$log"; } | tail -n 5 >&2
    fi
  done
}

unquoted() { # Kaldi's pytorchnn scripts need '<unk>' in quotes of its own
  local word=${1#[\'\"]}
  echo "${word%[\'\"]}"
}

# A Kaldi RNNLM directory or a model.pt becomes <out>/lm, unless it is there already, made from the same files with the
# same options; then lm names that. Not through $cmd: it takes seconds, and a runner's shell would read the < of <unk>.
import_lm() {
  local words=("$lm") sources=()
  case "$(lm_kind)" in
    ours | fusion) return ;;
    rnnlm)
      sources=("$lm/final.raw" "$lm"/*.mat "$lm"/*.txt "$lm/config/words.txt")
      words+=(--backward "$backward") ;;
    pytorchnn) sources=("$lm" "$vocab") words+=(--words "$vocab" --heads "$nhead" --unk "$(unquoted "$oov_symbol")") ;;
  esac
  local made=$out/lm asked="${words[*]}"
  if ! { fresh "$made/imported" "${sources[@]}" && [ "$(cat "$made/imported")" = "$asked" ]; }; then
    echo "$0: importing $lm into $made"
    rm -rf "$made"
    if ! mpq lm import "${words[@]}" "$made" > "$out/log/import_lm.log" 2>&1; then
      show_errors "$out/log/import_lm.log"
      fail "$lm cannot be imported, see $out/log/import_lm.log"
    fi
    tail -n 1 "$out/log/import_lm.log"
    echo "$asked" > "$made/imported"
  fi
  lm=$made
}

run_jobs() { # name of the logs, verb and options of mpq
  local logs=$out/log/$1
  rm -f "$out/.done" "$out"/lat.*.gz # what an earlier run left is no part of this one, even if it fails
  echo "$nj" > "$out/num_jobs"
  # The runner may start a job on another machine, with an environment of its own.
  local python=(env "PYTHONPATH=$PYTHONPATH" "$MPQ_PYTHON")
  # shellcheck disable=SC2086
  if ! $cmd JOB=1:"$nj" "$logs.JOB.log" \
      "${python[@]}" -m kaldi_mpq.cli "${@:2}" $rescore_opts --job JOB "$in" "$out" '&&' \
      "${python[@]}" "$here/lattice_keys.py" "$in/lat.JOB.gz" "$out/lat.JOB.gz"; then
    show_errors "$logs".*.log
    fail "rescoring failed, see $logs.*.log"
  fi
  grep -hE '\) WARNING |utterances in,' "$logs".*.log | sort | uniq -c | sort -rn | head -n 20 || true
  touch "$out/.done"
}

open_output() {
  mkdir -p "$out/log"
  # shellcheck source=local/find_mpq.sh
  . "$here/find_mpq.sh"
}

shared_options() { # sets options to those that every verb of rescoring has
  options=(--lm "$lm" --weight "$weight")
  if [ "$(lm_kind)" = fusion ]; then
    options=(--fusion "$lm")
    echo "$0: LMs and their weights are those of $lm"
  fi
  options+=(--old-lang "$old_lang" --old-lm "$old_lm" --threads "$threads" --device "$device" --batch-tokens "$batch_tokens" --strict "$strict")
}

choose_normalize() { # sets normalized; before the import, which names another lm
  normalized=true
  if [ "$(lm_kind)" = rnnlm ] && [ "${normalize:-false}" = false ]; then
    echo "$0: outputs of $lm are taken for log-probabilities, as Kaldi's script does; --normalize true makes sure"
    normalized=false
  fi
}

rescore_lattices() { # options of mpq rescore lattice beside those that all scripts have
  choose_normalize
  open_output
  import_lm
  shared_options
  options+=(--normalize "$normalized" --max-ngram-order "$max_ngram_order" --text "$text")
  run_jobs rescorelm rescore lattice "${options[@]}" "$@"
}

rescore_nbest() {
  open_output
  options=(--threads "$threads" --strict "$strict")
  choose_normalize
  if [ "$test" = false ]; then
    import_lm
    shared_options
  fi
  run_jobs rescore_nbest rescore nbest "${options[@]}" --n "$N" --inv-acwt "$inv_acwt" --use-phi "$use_phi" \
    --test "$test" --keep-ali "$keep_ali" --normalize "$normalized"
}

score_output() {
  if ! is_scored; then
    echo "$0: not scored, as asked"
  elif [ -x local/score.sh ]; then
    local/score.sh --cmd "$cmd" "$data" "$old_lang" "$out" || fail "scoring failed: local/score.sh $data $old_lang $out"
  elif [ "$require_scoring" = true ]; then
    fail "no executable local/score.sh here"
  else
    complain "no executable local/score.sh here: not scored"
  fi
}
