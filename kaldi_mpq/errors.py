# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a user's input, one class each; the command line turns them into one line and exit code 2.

Not here: programming errors. Those stay assertions with their values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "ConfigError",
    "LatticeError",
    "MissingInputError",
    "ModelFileError",
    "MpqError",
    "NumericalError",
    "OldLmError",
    "PrecisionError",
    "ScoringError",
    "TextError",
    "VocabularyError",
]


class MpqError(Exception):
    """Bad input: what is wrong, where, what was expected, what was found and what to try.

    Args:
      what: the fault, in a few words.
      where: the file, with its line or byte offset where there is one, as ``path:line``.
      expected: what a good file has there.
      found: what this one has.
      hint: what the user can try next.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        parts = [f"{where}: {what}" if where is not None else what]
        if expected is not None:
            parts.append(f"expected {expected}")
        if found is not None:
            parts.append(f"found {found}")
        message = ", ".join(parts)
        super().__init__(f"{message}; {hint}" if hint else message)


class MissingInputError(MpqError):
    """Files or directories that a verb needs are not there; all of them are named at once."""

    def __init__(self, paths: Sequence[str | Path], *, hint: str | None = None) -> None:
        listed = ", ".join(str(path) for path in paths)
        super().__init__(f"missing {len(paths)} input(s): {listed}", hint=hint)


class ConfigError(MpqError):
    """A setting is unknown, has the wrong type or is out of range."""


class VocabularyError(MpqError):
    """A words.txt is malformed, lacks a special symbol, or differs from the one a model was trained with."""


class TextError(MpqError):
    """A Kaldi text file is malformed."""


class LatticeError(MpqError):
    """A lattice archive cannot be read or written, or a lattice cannot be used."""


class OldLmError(MpqError):
    """The old language model (G.fst, G.carpa or ARPA) cannot be read."""


class ModelFileError(MpqError):
    """A model file is damaged, incomplete, or does not fit its configuration."""


class PrecisionError(MpqError):
    """A precision map names unknown units, misses some, or uses a width that is not a candidate."""


class NumericalError(MpqError):
    """A weight, loss or score is not finite."""


class ScoringError(MpqError):
    """References and hypotheses cannot be scored against each other."""
