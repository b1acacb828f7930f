# SPDX-License-Identifier: Apache-2.0
"""What is to be scored: data directories, decode directories, and that all of it is there before work begins.

Not here: lattices (`sweep`) and times (`ctm`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.artefact import require
from kaldi_mpq.errors import ConfigError, ScoringError, TextError
from kaldi_mpq.native.decode_dir import check_strays, expected_archives

__all__ = ["ScoredSet", "WordFilter", "check_inputs", "parse_sets", "read_table"]

_DATA_FILES = {"text": ("text", "utt2spk"), "stm": ("stm", "segments", "reco2file_and_channel")}


@dataclass(frozen=True)
class ScoredSet:
    """A data directory and its decode directory; named like the data directory."""

    name: str
    data: Path
    decode: Path


@dataclass(frozen=True)
class WordFilter:
    """What is done to words before they are compared: case folding, then the ignored ones dropped."""

    fold: bool = True
    ignored: frozenset[str] = frozenset()

    @classmethod
    def make(cls, case: str, ignored: Iterable[str]) -> WordFilter:
        """Return the filter for ``case`` fold or keep; ignored words obey the same case rule."""
        fold = case == "fold"
        return cls(fold, frozenset(word.lower() if fold else word for word in ignored))

    def __call__(self, words: Iterable[str]) -> tuple[str, ...]:
        """Return the words that are left."""
        folded = (word.lower() if self.fold else word for word in words)
        return tuple(word for word in folded if word not in self.ignored)


def parse_sets(dev: str, evals: Sequence[str]) -> list[ScoredSet]:
    """Return the sets of ``DATADIR=DECODEDIR`` words, dev first.

    Raises:
      ConfigError: one is not of that form, or two data directories have the same name.
    """
    sets: list[ScoredSet] = []
    for given in (dev, *evals):
        data, equals, decode = given.partition("=")
        if not (data and equals and decode):
            raise ConfigError("bad set", expected="DATADIR=DECODEDIR", found=repr(given))
        name = Path(data).resolve().name
        same = next((other for other in sets if other.name == name), None)
        if same is not None:
            raise ConfigError(
                f"two sets named {name!r}",
                found=f"{same.data} and {data}",
                hint="sets are named like their data directory",
            )
        sets.append(ScoredSet(name, Path(data), Path(decode)))
    return sets


def check_inputs(sets: Sequence[ScoredSet], words: Path, mode: str) -> dict[str, list[Path]]:
    """Return the lattice archives of each set by its name, once every input is known to be there.

    Raises:
      MissingInputError: naming every file that is missing, of all sets at once.
      LatticeError: a decode directory whose num_jobs is no number or has archives beyond it.
    """
    needed = [words]
    found: dict[str, list[Path]] = {}
    for scored in sets:
        needed += [scored.data / name for name in _DATA_FILES[mode]]
        found[scored.name] = expected_archives(scored.decode)
        needed += [scored.decode / "num_jobs", *found[scored.name]]
    require(needed, hint="a decode directory has lat.1.gz .. lat.nj.gz and num_jobs")
    for scored in sets:
        check_strays(scored.decode, found[scored.name])
    return found


def read_table(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the fields after the first of each line of a Kaldi table (text, utt2spk, segments, ...), by the first.

    Fields are separated by ASCII white space only, as Kaldi separates them.

    Raises:
      TextError: a key twice, an empty line, bytes that are not UTF-8, with the line's number.
    """
    table: dict[str, tuple[str, ...]] = {}
    for number, raw in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{path}:{number}"
        try:
            fields = [field.decode("utf-8") for field in raw.split()]
        except UnicodeDecodeError as error:
            raise TextError("not UTF-8", where=where, found=str(error)) from error
        if not fields:
            raise TextError("empty line", where=where)
        if fields[0] in table:
            raise TextError(f"{fields[0]!r} is there twice", where=where)
        table[fields[0]] = tuple(fields[1:])
    if not table:
        raise ScoringError("nothing to score against", where=path, found="an empty file")
    return table
