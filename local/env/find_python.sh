# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# find_python "3.11 3.12": print the path of a Python of one of these versions that can make a virtual environment and
# compile an extension; say on stderr what was tried where there is none.
#
# A name on PATH is not trusted: pyenv's shims answer to python3.10 and fail, Debian's Pythons may lack venv or Python.h.

find_python() {
  local version candidate
  if [ -n "${MPQ_PYTHON:-}" ]; then
    python_works "$MPQ_PYTHON" "$1" || { echo "make_env: MPQ_PYTHON=$MPQ_PYTHON is no working Python $1" >&2; return 1; }
    real_path_of_python "$MPQ_PYTHON"
    return
  fi
  for version in $1; do
    while read -r candidate; do
      if python_works "$candidate" "$version"; then real_path_of_python "$candidate"; return; fi
    done < <(python_candidates "$version")
  done
  python_by_uv "${1%% *}" && return
  cat >&2 << MESSAGE
make_env: no Python ${1// / or } that can make a virtual environment and compile an extension.
  Tried: python${1// /, python} and python3 on PATH, pyenv's versions, uv.
  Any of these helps:  uv python install ${1%% *}     pyenv install ${1%% *}     apt-get install python${1%% *}-dev python${1%% *}-venv
  or name one:         MPQ_PYTHON=/path/to/python make test
MESSAGE
  return 1
}

# All candidates for version $1, the likeliest first.
python_candidates() {
  type -aP "python$1" python3 python 2> /dev/null || true
  local pyenv
  for pyenv in "${PYENV_ROOT:-}" "$HOME/.pyenv" /opt/pyenv; do
    if [ -n "$pyenv" ]; then
      find "$pyenv/versions" -maxdepth 1 -name "$1.*" 2> /dev/null | sort -rV | sed 's:$:/bin/python:'
    fi
  done
  find "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}" -maxdepth 1 -name "cpython-$1.*" 2> /dev/null | sort -rV | sed 's:$:/bin/python3:'
}

# True if $1 runs, is of one of the versions $2, and has what an environment and an extension need.
python_works() {
  "$1" - "$2" > /dev/null 2>&1 << 'PYTHON'
import ensurepip, os, sys, sysconfig, venv
versions = sys.argv[1].split()
assert "%d.%d" % sys.version_info[:2] in versions
assert os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
PYTHON
}

real_path_of_python() {
  "$1" -c 'import sys; print(sys.executable)'
}

python_by_uv() {
  command -v uv > /dev/null || return 1
  echo "make_env: uv python install $1" >&2
  uv python install "$1" >&2 || return 1
  local found
  found=$(uv python find "$1") || return 1
  python_works "$found" "$1" && real_path_of_python "$found"
}
