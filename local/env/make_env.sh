#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make the virtual environment of a stack, with the pinned packages and this package, C++ extensions compiled.
#
#   local/env/make_env.sh k2         .venv: Python 3.10, torch 1.13.1, k2 (requirements/k2.txt)
#   local/env/make_env.sh current    .venv-current: Python 3.11 or later, current torch, no k2 (requirements/current.txt)
#
# Does only what is missing: a second call takes a fraction of a second, a call after an interruption begins again where
# whole things end. The package is installed editable; its C++ is compiled again when a source of it changes.
# Variables: MPQ_PYTHON, the Python to use instead of a search; MPQ_NO_APT=1, never to call apt-get.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
# shellcheck source=local/env/find_python.sh
. local/env/find_python.sh
# shellcheck source=local/env/debian.sh
. local/env/debian.sh

say() { echo "make_env: $*" >&2; }

case "${1:-k2}" in
  k2) venv=.venv wanted="3.10" ;;
  current) venv=.venv-current wanted="3.11 3.12 3.13 3.14" ;;
  *) say "no such stack: $1 (k2 or current)"; exit 2 ;;
esac
requirements=requirements/${1:-k2}.txt
mine=$venv/.kaldi_mpq           # says that the directory is ours to replace
installed=$venv/.installed      # what the packages were installed from
built=$venv/.built              # what the extensions were compiled from

hash_of() { cat "$@" | sha256sum | cut -d' ' -f1; }
is_stamped() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

make_venv() {
  if [ -e "$venv" ] && [ ! -e "$mine" ] && [ -n "$(ls -A "$venv")" ]; then
    say "$venv is there, but this script did not make it; move it away and call again"
    exit 1
  fi
  if [ -e "$venv" ]; then say "$venv is not whole: making it again"; fi
  rm -rf "$venv"
  local python
  python=$(find_python "$wanted")
  say "making $venv with $("$python" -V 2>&1) ($python)"
  mkdir "$venv" && touch "$mine"
  "$python" -m venv "$venv"
}

install_packages() {
  say "installing $(grep -c '==' "$requirements") packages of $requirements (the first time this downloads torch: minutes)"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check -r "$requirements" && return
  say "pip could not install all of $requirements. It takes them from the network: is there one, or a mirror (pip config)?"
  say "call again when there is"
  exit 1
}

build_package() {
  need_compiler
  say "installing kaldi_mpq, editable, and compiling its C++ (about a minute)"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .
}

extensions_are_there() {
  local suffix name
  suffix=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
  for name in kaldi_mpq/native/src/*/; do
    [ -f "kaldi_mpq/native/_$(basename "$name")$suffix" ] || return 1
  done
}

mkdir -p build
if command -v flock > /dev/null; then
  exec 9> build/make_env.lock
  flock -n 9 || { say "waiting for another make_env"; flock 9; }
fi

mapfile -t sources < <(find kaldi_mpq/native/src -type f \( -name '*.h' -o -name '*.cpp' \) | LC_ALL=C sort)
packages_hash=$(hash_of "$requirements")
build_hash=$(hash_of setup.py pyproject.toml "$requirements" "${sources[@]}")

if [ ! -f "$installed" ]; then make_venv; fi
if ! is_stamped "$installed" "$packages_hash"; then
  rm -f "$built"
  if [ -f "$installed" ]; then say "$requirements has changed"; rm "$installed"; fi
  install_packages
  echo "$packages_hash" > "$installed"
fi
if ! is_stamped "$built" "$build_hash" || ! extensions_are_there; then
  rm -f "$built"
  build_package
  extensions_are_there || { say "an extension is missing after the build"; exit 1; }
  echo "$build_hash" > "$built"
  say "$venv is ready"
fi
want_sclite
