#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make .venv-peers: Python 3.12 with ONNX Runtime and CTranslate2 (requirements.txt beside this script), which
# benchmarks/against_peers.py measures ours against. torch is measured in our own environment.
#
# Does only what is missing. Fails with one message where there is no Python 3.12 or no package; the benchmark then runs
# without these peers and says so. Variable: MPQ_PYTHON_PEERS, the Python to use instead of a search.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
# shellcheck source=local/env/find_python.sh
. local/env/find_python.sh

venv=.venv-peers
requirements=benchmarks/peers/requirements.txt
wanted=$(sha256sum < "$requirements" | cut -d' ' -f1)

say() { echo "peers: $*" >&2; }

if [ -f "$venv/.installed" ] && [ "$(cat "$venv/.installed")" = "$wanted" ]; then exit 0; fi
if [ -e "$venv" ] && [ ! -e "$venv/.kaldi_mpq" ] && [ -n "$(ls -A "$venv")" ]; then
  say "$venv is there, but this script did not make it; move it away and call again"
  exit 1
fi
# The search takes MPQ_PYTHON for its own, which is that of the main environment here.
if ! python=$(MPQ_PYTHON=${MPQ_PYTHON_PEERS:-} find_python "3.12" 2> /dev/null); then
  say "no Python 3.12, which ONNX Runtime is measured with: install one (uv python install 3.12, pyenv install 3.12," \
    "apt-get install python3.12-dev python3.12-venv) or name it: MPQ_PYTHON_PEERS=/path/to/python"
  exit 1
fi
rm -rf "$venv"
mkdir "$venv" && touch "$venv/.kaldi_mpq"
say "making $venv with $("$python" -V 2>&1)"
"$python" -m venv "$venv"
if ! "$venv/bin/python" -m pip install -qq --disable-pip-version-check -r "$requirements"; then
  say "pip could not install all of $requirements. It takes them from the network: is there one, or a mirror (pip config)?"
  exit 1
fi
echo "$wanted" > "$venv/.installed"
say "$venv is ready"
