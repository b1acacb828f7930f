# SPDX-License-Identifier: Apache-2.0
"""The drop-in scripts as their tests see them: names, arguments, and a Python that notes what it is asked to do."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

SOURCE, OUT = "exp/chain/tdnn/decode_dev_tg", "exp/chain/tdnn/decode_dev_tg_new"

# Stands for Python: copies the lattices that it is to rescore, leaves the files of an LM that it is to import.
FAKE_PYTHON = r"""#!/usr/bin/env bash
set -euo pipefail
case "$1 $#" in
  -m*) shift 2 ;;
  */lattice_keys.py\ 3) test -e "$3"; exit ;;
esac
printf -v call '%q ' "$@"
echo "$call" >> "$CALLS"
if [ "$1 $2" = "${FAILS:-}" ]; then echo "LOG (mpq) begin"; echo "ERROR (mpq) too bad" >&2; exit 2; fi
case "$1 $2" in
  "lm import") mkdir -p "${!#}"; touch "${!#}"/{config.json,model.safetensors,words.txt} ;;
  rescore*) cp "${@: -2:1}/lat.$(sed 's/.*--job \([0-9]*\).*/\1/' <<< "$*").gz" "${!#}/"
    echo "LOG (mpq:run) WARNING utterance u goes through unchanged" >&2
    echo "15 utterances in, 15 out, 0 passed through unchanged" ;;
esac
"""


@dataclass(frozen=True)
class DropIn:
    """A drop-in script: what it stands in for, and what it asks of mpq."""

    name: str
    kaldi: str
    verb: str
    arguments: tuple[str, ...]
    prefers: str

    @property
    def script(self) -> str:
        """Its path in the repository."""
        return f"local/{self.name}.sh"

    @property
    def last_stage(self) -> str:
        """The stage that only scores."""
        return {"lmrescore_lattice_pytorchnn": "5"}.get(self.name, "9" if self.verb == "rescore nbest" else "2")

    def options(self) -> list[str]:
        """Return the names of its options as they are written on a command line."""
        text = (ROOT / self.script).read_text(encoding="utf-8")
        return [name.replace("_", "-") for name in re.findall(r"^([A-Za-z_]+)=.*  # \S", text, re.MULTILINE)]

    def words(self, **changed: str) -> list[str]:
        """Return its arguments on the sample, with some changed."""
        given = {"weight": "0.5", "lang": "data/lang_tg", "lm": "exp/lm", "vocab": "data/lang_tg/words.txt",
                 "data": "data/dev", "source": SOURCE, "out": OUT} | changed  # fmt: skip
        return [given[name] for name in self.arguments]


_FIVE = ("lang", "lm", "data", "source", "out")
_SIX = ("lang", "lm", "vocab", "data", "source", "out")
DROP_INS = (
    DropIn("lmrescore_pruned", "scripts/rnnlm/lmrescore_pruned.sh", "rescore lattice", _FIVE, "fst"),
    DropIn("lmrescore", "scripts/rnnlm/lmrescore.sh", "rescore lattice", _FIVE, "carpa"),
    DropIn("lmrescore_back", "scripts/rnnlm/lmrescore_back.sh", "rescore lattice", _FIVE, "fst"),
    DropIn("lmrescore_nbest", "scripts/rnnlm/lmrescore_nbest.sh", "rescore nbest", ("weight", *_FIVE), "carpa"),
    DropIn("lmrescore_lattice_pytorchnn", "egs/wsj/s5/steps/pytorchnn/lmrescore_lattice_pytorchnn.sh",
           "rescore lattice", _SIX, "carpa"),
    DropIn("lmrescore_nbest_pytorchnn", "egs/wsj/s5/steps/pytorchnn/lmrescore_nbest_pytorchnn.sh",
           "rescore nbest", _SIX, "carpa"),
)  # fmt: skip


@dataclass(frozen=True)
class Calls:
    """What the Python of a test was asked, in the order of asking."""

    path: Path

    def all(self) -> list[list[str]]:
        """Return the words of every call of mpq."""
        return [shlex.split(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def of(self, verb: str) -> list[list[str]]:
        """Return the words behind the verb of every call of it, job by job."""
        found = [words[2:] for words in self.all() if " ".join(words[:2]) == verb]
        return sorted(found, key=lambda words: words[words.index("--job") + 1]) if verb.startswith("rescore") else found


def value(words: list[str], option: str) -> str:
    """Return what stands behind an option."""
    return words[words.index(option) + 1]
