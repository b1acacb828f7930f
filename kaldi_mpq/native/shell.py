# SPDX-License-Identifier: Apache-2.0
"""Shell commands as sources and sinks: how they are started, and what their exit status says."""

from __future__ import annotations

import shutil

from kaldi_mpq.errors import LatticeError

__all__ = ["failure", "shell_command"]


def shell_command(command: str) -> list[str]:
    """Return the words that run ``command`` in a shell where a pipe fails if any of its programs does.

    Plain sh, which only notices the last one, has to do where there is no bash.
    """
    bash = shutil.which("bash")
    return [bash, "-o", "pipefail", "-c", command] if bash else ["/bin/sh", "-c", command]


def failure(name: str, status: int, what: str = "the command failed") -> LatticeError:
    """Return the error that a command called ``name`` ended with ``status``, as `subprocess` has it."""
    if status == 0:
        return LatticeError(what, where=name)
    found = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return LatticeError(what, where=name, expected="exit status 0", found=found)
