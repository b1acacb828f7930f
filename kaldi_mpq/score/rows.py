# SPDX-License-Identifier: Apache-2.0
"""One system of the table: what its files say about it. Not here: how that is laid out (`table`)."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaldi_mpq.artefact import read_json, require
from kaldi_mpq.errors import ConfigError, ModelFileError, ScoringError
from kaldi_mpq.score.aligned import Aligned, read_per_utt, total
from kaldi_mpq.score.error_counts import ErrorCounts

__all__ = ["Row", "read_rows"]

_FLOAT_MODEL = "model.safetensors"
_BITS_OF = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I8": 8, "U8": 8}


@dataclass(frozen=True)
class Row:
    """A system.

    Args:
      name: its name in the table.
      bits: mean bits per parameter on disk, None if unknown.
      size_bytes: size of the model on disk, None if unknown.
      perplexities: of each set.
      sets: errors on each set, and where their alignments are.
      signature: how the errors were counted.
    """

    name: str
    bits: float | None
    size_bytes: int | None
    perplexities: Mapping[str, float]
    sets: Mapping[str, tuple[ErrorCounts, Path]]
    signature: str | None

    def wer(self, name: str) -> float | None:
        """Return the word error rate on a set in percent, None where it was not scored on it."""
        return self.sets[name][0].wer if name in self.sets else None

    def alignments(self, name: str) -> dict[str, Aligned]:
        """Return the alignments of a set's utterances.

        Raises:
          MissingInputError, ScoringError: they are not there, or are not those that wer.json was made from.
        """
        counts, path = self.sets[name]
        aligned = read_per_utt(path)
        if total(aligned.values()) != counts:
            raise ScoringError("alignments do not belong to wer.json", where=path, hint="score again")
        return aligned


def read_rows(given: Sequence[str]) -> list[Row]:
    """Return the rows of words ``NAME=PATH[,PATH...]``.

    Raises:
      MissingInputError: naming every path of all rows that is not there.
      ConfigError: a word is not of that form, or a name is there twice.
      ScoringError, ModelFileError: a file that does not hold what it should.
    """
    parsed: dict[str, list[str]] = {}
    for word in given:
        name, equals, paths = word.partition("=")
        items = [item for item in paths.split(",") if item]
        if not (name.strip() and equals and items):
            raise ConfigError("bad row", expected="NAME=PATH[,PATH...]", found=repr(word))
        if name in parsed:
            raise ConfigError(f"two rows named {name!r}")
        parsed[name] = items
    if not parsed:
        raise ConfigError("no rows", expected="NAME=PATH[,PATH...]")
    require([item for items in parsed.values() for item in items if not _is_value(item)])
    return [_row(name, items) for name, items in parsed.items()]


def _row(name: str, items: Sequence[str]) -> Row:
    values = dict(item.split(":", 1) for item in items if _is_value(item))
    paths = [Path(item) for item in items if not _is_value(item)]
    directories = [path for path in paths if path.is_dir()]
    wer, ppl = _first(directories, "wer.json"), _first(directories, "ppl.json")
    bits, size = _size(paths, directories)
    signature, sets = _errors(wer) if wer else (None, {})
    return Row(
        name,
        _value("bits", values, bits),
        None if (size := _value("bytes", values, size)) is None else int(size),
        _perplexities(ppl) if ppl else {},
        sets,
        signature,
    )


def _is_value(item: str) -> bool:
    return item.startswith(("bits:", "bytes:"))


def _value(key: str, values: Mapping[str, str], measured: float | None) -> float | None:
    if key not in values:
        return measured
    try:
        return float(values[key])
    except ValueError as error:
        raise ConfigError(f"bad value for {key}", expected="a number", found=repr(values[key])) from error


def _first(directories: Iterable[Path], name: str) -> Path | None:
    return next((directory / name for directory in directories if (directory / name).exists()), None)


def _errors(path: Path) -> tuple[str, dict[str, tuple[ErrorCounts, Path]]]:
    report = read_json(path)
    try:
        sets = {
            name: (ErrorCounts.from_dict(values, where=path), path.parent / values["per_utt"])
            for name, values in report["sets"].items()
        }
        return report["signature"], sets
    except (KeyError, TypeError, AttributeError) as error:
        raise ScoringError("not a report of mpq score wer", where=path, found=repr(error)) from error


def _perplexities(path: Path) -> dict[str, float]:
    report = read_json(path)
    try:
        return {name: float(values["perplexity"]) for name, values in report.items() if isinstance(values, dict)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        expected = '{"dev": {"perplexity": 80.0}, ...}'
        raise ScoringError("not a report of perplexities", where=path, expected=expected, found=repr(error)) from error


def _size(paths: Sequence[Path], directories: Sequence[Path]) -> tuple[float | None, int | None]:
    """Return (bits per parameter, bytes): of size.json, else of the model file given, else of a float model's file."""
    report = _first(directories, "size.json")
    if report is not None:
        values = read_json(report)
        if not isinstance(values, dict) or not isinstance(values.get("bytes"), int):
            raise ScoringError("not a report of sizes", where=report, expected='{"bytes": 1000, ...}')
        return values.get("mean_bits"), values["bytes"]
    file = next((path for path in paths if path.is_file()), None) or _first(directories, _FLOAT_MODEL)
    if file is None:
        return None, None
    return _mean_bits(file) if file.name == _FLOAT_MODEL else None, file.stat().st_size


def _mean_bits(path: Path) -> float:
    """Return the mean bits per number in a float model's safetensors file; its header tells, 8 bytes and then JSON."""
    with open(path, "rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(min(length, path.stat().st_size)))
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            numbers = [(math.prod(tensor["shape"]), _BITS_OF[tensor["dtype"]]) for tensor in tensors]
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise ModelFileError("not a safetensors file", where=path, found=repr(error)) from error
    return sum(count * bits for count, bits in numbers) / max(sum(count for count, _ in numbers), 1)
