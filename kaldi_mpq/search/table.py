# SPDX-License-Identifier: Apache-2.0
"""``sensitivity.tsv``: what was measured of each part at each width, and of what; read back by a search that goes on.

The first line is ``# `` and a JSON object of everything that the measurements depend on; measurements of other inputs
are never taken. Then a table with a header line. Not here: what the columns mean (`measures`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaldi_mpq.artefact import writing
from kaldi_mpq.errors import MpqError

__all__ = ["SensitivityTable"]

_SAVE_SECONDS = 5.0
Key = tuple[str, str, int]  # what the other parts were, the unit, its bits


class SensitivityTable:
    """Measured values of keys (around, unit, bits), in memory and in a file.

    Args:
      path: the file, which need not be there.
      made_from: what the values depend on, JSON-ready.
      columns: names of the values.
    """

    def __init__(self, path: Path, made_from: Mapping[str, Any], columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        self.made_from = json.loads(json.dumps(made_from))
        self._values: dict[Key, tuple[float, ...]] = {}
        self._saved = time.monotonic()

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def __getitem__(self, key: Key) -> dict[str, float]:
        return dict(zip(self.columns, self._values[key]))

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: Key, **values: float) -> None:
        """Add the values of one unit at one width; the file follows every few seconds."""
        self._values[key] = tuple(values[name] for name in self.columns)
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()

    def take_from(self, path: Path) -> list[str]:
        """Take the values in a file; return what it was made from that differs, in which case none are taken.

        Raises:
          MpqError: the file is no such table.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            theirs = json.loads(lines[0].removeprefix("# "))
            header = lines[1].split("\t")
            rows = [dict(zip(header, line.split("\t"), strict=True)) for line in lines[2:]]
            values = {
                (row["around"], row["unit"], int(row["bits"])): tuple(float(row[name]) for name in self.columns)
                for row in rows
                if theirs == self.made_from
            }
        except (ValueError, KeyError, IndexError) as error:
            raise MpqError("not a table of sensitivities", where=path, found=str(error), hint="remove it") from error
        self._values.update(values)
        keys = sorted({*theirs, *self.made_from})
        return [key for key in keys if theirs.get(key) != self.made_from.get(key)]

    def save(self, derived: Mapping[str, Mapping[Key, Any]] | None = None) -> None:
        """Write the file.

        Args:
          derived: further columns, for readers of the file: name -> key -> value.
        """
        derived = derived or {}
        lines = ["# " + json.dumps(self.made_from), "\t".join(["around", "unit", "bits", *derived, *self.columns])]
        for key, values in self._values.items():
            more = [column.get(key, "") for column in derived.values()]
            numbers = [value if isinstance(value, (str, int)) else f"{value:.9g}" for value in (*more, *values)]
            lines.append("\t".join(map(str, (*key, *numbers))))
        with writing(self.path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._saved = time.monotonic()
