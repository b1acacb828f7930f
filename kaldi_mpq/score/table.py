# SPDX-License-Identifier: Apache-2.0
"""``mpq score table``: systems side by side, in Markdown, with the command that made the table.

Not here: the rows' files (`rows`), the picture (`plot`).
"""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Sequence

from kaldi_mpq.errors import ConfigError, ScoringError
from kaldi_mpq.score.markers import check_markers, markers, write_between_markers
from kaldi_mpq.score.rows import Row, read_rows
from kaldi_mpq.score.settings import TableSettings
from kaldi_mpq.score.significance import matched_pairs
from kaldi_mpq.settings import nearest

__all__ = ["END", "START", "write_table"]

log = logging.getLogger(__name__)

_MARKERS = "results"
START, END = markers(_MARKERS)
_NONE = "-"


def write_table(settings: TableSettings) -> str:
    """Return the table, and write it between the markers of ``settings.into`` and the picture, where these are wanted.

    Raises:
      MissingInputError, ConfigError, ScoringError: a path that is not there, a row that is malformed, a reference that
        is no row, a file without markers, systems that were scored on different utterances.
    """
    rows = read_rows(settings.rows)
    names = [row.name for row in rows]
    unknown = [name for name in settings.reference if name not in names]
    if unknown:
        raise ConfigError(f"no row named {unknown[0]!r}", hint=nearest(unknown[0], names))
    if settings.into is not None:
        check_markers(settings.into, _MARKERS)
    sets = list(dict.fromkeys(name for row in rows for name in row.sets))
    test_set = settings.test_set or (sets[1] if len(sets) > 1 else sets[0] if sets else None)
    if settings.test_set is not None and settings.test_set not in sets:
        raise ConfigError(f"no row was scored on {settings.test_set!r}", hint=nearest(settings.test_set, sets))
    references = [rows[names.index(name)] for name in settings.reference]
    table = _markdown(rows, sets, references, test_set)
    notes = [_note(rows, references, test_set), f"Made by\n\n    {_command(settings)}"]
    text = "\n\n".join([table, *filter(None, notes)])
    if settings.into is not None:
        write_between_markers(settings.into, _MARKERS, text)
    if settings.plot is not None:
        from kaldi_mpq.score.plot import plot_sizes

        plot_sizes(settings.plot, rows, test_set)
    return text


def _markdown(rows: Sequence[Row], sets: Sequence[str], references: Sequence[Row], test_set: str | None) -> str:
    perplexities = list(dict.fromkeys(name for row in rows for name in row.perplexities))
    ppl_sets = [name for name in sets if name in perplexities] or perplexities
    head = ["system", "bits", "bytes", *(f"PPL {name}" for name in ppl_sets), *(f"WER {name}" for name in sets)]
    head += [f"p against {reference.name}" for reference in references]
    lines = [head, [":--", *["--:"] * (len(head) - 1)]]
    for row in rows:
        cells = [row.name, _number(row.bits, "{:.4g}"), _number(row.size_bytes, "{:,}")]
        cells += [_number(row.perplexities.get(name), "{:.1f}") for name in ppl_sets]
        cells += [_number(row.wer(name), "{:.2f}") for name in sets]
        cells += [_p(row, reference, test_set) for reference in references]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |" for cells in lines)


def _p(row: Row, reference: Row, test_set: str | None) -> str:
    if row is reference or test_set not in row.sets or test_set not in reference.sets:
        return _NONE
    ours, theirs = row.alignments(test_set), reference.alignments(test_set)
    try:
        test = matched_pairs(ours, theirs)
    except ScoringError as error:
        raise ScoringError(f"{row.name} against {reference.name}: {error}") from error
    log.info("%s against %s on %s: %s", row.name, reference.name, test_set, test)
    return "< 0.001" if test.p < 0.0005 else f"{test.p:.3f}"


def _note(rows: Sequence[Row], references: Sequence[Row], test_set: str | None) -> str:
    signatures = list(dict.fromkeys(row.signature for row in rows if row.signature))
    if len(signatures) > 1:
        log.warning("the rows were not scored alike: %s", "; ".join(signatures))
    notes = [f"WER: {'; '.join(signatures)}."] if signatures else []
    if references:
        notes.append(f"p: matched pairs (MAPSSWE), two-tailed, on {test_set}.")
    return " ".join(notes)


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)


def _command(settings: TableSettings) -> str:
    words = ["mpq", "score", "table"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.metadata.get("positional") or value in (None, ()):
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [f"--{field.name.replace('_', '-')}", str(one)]
    return shlex.join([*words, *settings.rows])
