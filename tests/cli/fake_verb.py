# SPDX-License-Identifier: Apache-2.0
"""A verb that only the tests of the command line know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.errors import MpqError
from kaldi_mpq.settings import setting


@dataclass(frozen=True)
class FakeSettings:
    """Do nothing, in one of three ways."""

    out: Path = setting(help="where to", positional=True)
    rate: float = setting(0.5, help="a number")
    strict: bool = setting(False, help="true or false")
    mode: str = setting("good", help="how", choices=("good", "bad", "interrupted"))
    test: tuple[str, ...] = setting((), help="may be repeated")
    old_lm: str = setting("auto", help="has an underscore")


@dataclass(frozen=True)
class ManySettings:
    """Take any number of rows."""

    head: str = setting(help="the first", positional=True)
    rows: tuple[str, ...] = setting((), help="the rest", positional=True)


def run(settings: FakeSettings) -> str:
    """Return the settings as text, or fail as told."""
    if settings.mode == "bad":
        raise MpqError("bad input", where="file:3", expected="a", found="b", hint="try a")
    if settings.mode == "interrupted":
        raise KeyboardInterrupt
    return repr(settings)
