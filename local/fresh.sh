# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced: what a stage made is finished when it is there and not older than what it is made from.

fresh() { # file, what it is made from
  local made=$1 source
  [ -e "$made" ] || return 1
  for source in "${@:2}"; do
    if [ "$source" -nt "$made" ]; then return 1; fi
  done
}
