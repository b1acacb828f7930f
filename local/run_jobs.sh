#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run numbered jobs of a command in parallel on this machine; the call and the logs are those of Kaldi's utils/run.pl.
#
#   run_jobs.sh [options] JOB=1:4 log/x.JOB.log command with JOB and shell operators like '|' and '>' as words of their own
#
#   --max-jobs-run N, -tc N   jobs at a time (the number of processors; --gpu N: the number of GPUs)
#   --pick all|failed|incomplete   all jobs; those whose log says that they failed; those whose log does not say "code 0"
#   other options (--mem 4G, --num-threads 2, ...) are for queues, and ignored
#
# Every occurrence of JOB in the command and in the log's name becomes the number. A word with white space is quoted, others
# reach the shell as they are. Unlike run.pl, a failure of any program of a pipe is a failure of its job (pipefail), the
# command's stdin is empty, and Ctrl-C ends the jobs too. Exit 0 if all jobs ended with 0, else 1.
set -euo pipefail

die() { echo "run_jobs.sh: $*" >&2; exit 1; }

name="" first=1 last=1 max_jobs=0 gpu=0 pick=all
while [ $# -gt 0 ]; do
  case "$1" in
    -V) shift; continue ;;
    -*)
      [ $# -gt 1 ] || die "option $1 has no value"
      case "$2" in --*) die "option $1 is followed by another option, $2" ;; esac
      case "$1" in
        --max-jobs-run | -tc) max_jobs=$2 ;;
        --gpu) gpu=$2 ;;
        --pick) pick=$2 ;;
      esac
      shift 2 ;;
    *)
      if [[ -z $name && $1 =~ ^([A-Za-z_][A-Za-z0-9_]*)=([0-9]+)(:([0-9]+))?$ ]]; then
        name=${BASH_REMATCH[1]} first=${BASH_REMATCH[2]} last=${BASH_REMATCH[4]:-${BASH_REMATCH[2]}}
        shift
      else
        break
      fi ;;
  esac
done
[ $# -ge 2 ] || { sed -n '3,5s/^# \{0,1\}//p' "$0" >&2; exit 1; }
[ "$first" -ge 1 ] && [ "$first" -le "$last" ] || die "bad range $name=$first:$last: positive and ascending it must be"
case "$pick" in all | failed | incomplete) ;; *) die "--pick is all, failed or incomplete, not $pick" ;; esac
[[ $max_jobs =~ ^[0-9]+$ ]] || die "--max-jobs-run is a number, not $max_jobs"
log_pattern=$1
shift
if [ "$first" != "$last" ] && [[ $log_pattern != *"$name"* ]]; then
  die "more than one job, but the log's name $log_pattern has no $name in it"
fi

command=""
for word in "$@"; do
  if [[ $word =~ [[:space:]] || -z $word ]]; then
    if [[ $word == *'"'* ]]; then command+="'$word' "; else command+="\"$word\" "; fi
  else
    command+="$word "
  fi
done
command=${command% }

with_number() { if [ -n "$name" ]; then printf '%s' "${1//"$name"/$2}"; else printf '%s' "$1"; fi; }

wanted() { # is the job with this log to be run?
  case "$pick" in
    all) return 0 ;;
    failed) [ -f "$1" ] && grep -q '^# Ended (code [1-9]' "$1" ;;
    incomplete) ! { [ -f "$1" ] && tail -n 1 "$1" | grep -q '^# Ended (code 0)'; } ;;
  esac
}

run_job() { # command, log
  local began=$SECONDS code=0 signal=""
  mkdir -p "$(dirname "$2")"
  { echo "# $1"; echo "# Started at $(date)"; echo "#"; } > "$2"
  bash -o pipefail -c "$1" < /dev/null >> "$2" 2>&1 || code=$?
  if [ "$code" -gt 128 ]; then signal="; signal $((code - 128))"; fi
  {
    echo "# Accounting: time=$((SECONDS - began)) threads=1"
    echo "# Ended (code $code$signal) at $(date), elapsed time $((SECONDS - began)) seconds"
  } >> "$2"
  return "$code"
}

jobs=$((last - first + 1))
if [ "$max_jobs" = 0 ]; then
  if [ "$gpu" != 0 ]; then
    max_jobs=$(nvidia-smi -L 2> /dev/null | grep -c '^GPU' || true)
    if [ "$max_jobs" = 0 ]; then max_jobs=1; fi
  else
    # nproc would say what OMP_NUM_THREADS says.
    max_jobs=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2> /dev/null || echo 1)
    if [ $((jobs * 10)) -lt $((max_jobs * 14)) ]; then max_jobs=$jobs; fi
  fi
fi

declare -A log_of=()
failed=0 total=0
stop() { trap - INT TERM; for pid in "${!log_of[@]}"; do kill -TERM -- "-$pid" 2> /dev/null || true; done; exit 130; }
trap stop INT TERM
set -m # each job gets a process group of its own, which Ctrl-C does not reach but stop() does

# `wait -n -p` is newer than many a cluster's bash, so that finished jobs are looked for by their ids.
reap_one() {
  local pid
  while :; do
    for pid in "${!log_of[@]}"; do
      if ! kill -0 "$pid" 2> /dev/null; then
        if ! wait "$pid"; then failed=$((failed + 1)); fi
        unset "log_of[$pid]"
        return
      fi
    done
    sleep 0.05
  done
}

for ((number = first; number <= last; number++)); do
  log=$(with_number "$log_pattern" "$number")
  wanted "$log" || continue
  while [ ${#log_of[@]} -ge "$max_jobs" ]; do reap_one; done
  run_job "$(with_number "$command" "$number")" "$log" &
  log_of[$!]=$log
  total=$((total + 1))
done
while [ ${#log_of[@]} -gt 0 ]; do reap_one; done

if [ "$failed" -gt 0 ]; then
  if [ "$jobs" = 1 ]; then
    echo "run_jobs.sh: job failed, log is in $(with_number "$log_pattern" "$first")" >&2
  else
    echo "run_jobs.sh: $failed / $total failed, log is in $(with_number "$log_pattern" '*')" >&2
  fi
  exit 1
fi
