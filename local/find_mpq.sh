# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced: sets MPQ_PYTHON, the Python that runs kaldi_mpq, and defines `mpq`. The first of these that is there:
# MPQ_PYTHON of the environment, this checkout's .venv (.venv-current), the Python behind an `mpq` on PATH; in a checkout
# with none of them the environment is made.

_mpq_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

_mpq_python() {
  local venv shebang
  for venv in .venv .venv-current; do
    if [ -f "$_mpq_root/$venv/.built" ]; then echo "$_mpq_root/$venv/bin/python"; return; fi
  done
  if command -v mpq > /dev/null; then
    read -r shebang < "$(command -v mpq)"
    if [ -x "${shebang#"#!"}" ]; then echo "${shebang#"#!"}"; return; fi
  fi
  "$_mpq_root/local/env/make_env.sh" k2 && echo "$_mpq_root/.venv/bin/python"
}

if [ -z "${MPQ_PYTHON:-}" ]; then
  MPQ_PYTHON=$(_mpq_python) || { echo "kaldi_mpq is not installed: make -C $_mpq_root env" >&2; exit 1; }
fi
export MPQ_PYTHON
export PYTHONPATH=$_mpq_root${PYTHONPATH:+:$PYTHONPATH}

mpq() { "$MPQ_PYTHON" -m kaldi_mpq.cli "$@"; }
