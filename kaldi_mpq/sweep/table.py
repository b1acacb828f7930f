# SPDX-License-Identifier: Apache-2.0
"""The table of sweeps, in Markdown, TSV and JSON. Not here: its numbers (`rows`), the picture (`plot`)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from kaldi_mpq.artefact import write_json, writing
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.score.markers import check_markers, write_between_markers
from kaldi_mpq.settings import nearest
from kaldi_mpq.sweep.cell import read_plan
from kaldi_mpq.sweep.plan import OWN
from kaldi_mpq.sweep.plot import plot_pareto
from kaldi_mpq.sweep.rows import FLOAT, NGRAM, Entry, entries_of
from kaldi_mpq.sweep.settings import SweepSettings, SweepTableSettings

__all__ = ["print_table", "write_tables"]

_NONE = "-"
_MARKERS = "sweep"
_NOTE = (
    "Bytes: the largest file of the seeds, on disk. PPL: mean over seeds and standard deviation, of the file loaded "
    "back. Over float, over uniform: PPL on {test_set} against the float LM, against uniform precision with the same "
    "fit and budget (own: its best fit); * where every seed is on one side of every seed of that. Seconds: search and "
    "fit, + where one was interrupted. Gap: how much less another allocation could cost, by the measured sensitivities."
)


def print_table(settings: SweepTableSettings) -> str:
    """Return the table of some sweeps' finished cells; write it and the picture where these are wanted.

    Raises:
      ConfigError: no directory, a file without markers, a set that was not measured.
      MissingInputError: a directory in which no sweep was started.
    """
    if not settings.outs:
        raise ConfigError("no sweep", expected="directories that mpq sweep wrote")
    if settings.into is not None:
        check_markers(settings.into, _MARKERS)
    sweeps = [read_plan(out) for out in settings.outs]
    tables = [(sweep, entries_of(sweep)) for sweep in sweeps]
    entries = [entry for _, found in tables for entry in found]
    test_set = _test_set(entries, settings.test_set)
    text = "\n\n".join(_markdown(found, test_set) for _, found in tables)
    text = "\n\n".join([text, _NOTE.format(test_set=test_set), f"Made by\n\n    {_command(settings)}"])
    if settings.into is not None:
        write_between_markers(settings.into, _MARKERS, text)
    if settings.plot is not None:
        plot_pareto(settings.plot, entries, test_set)
    return text


def write_tables(sweep: SweepSettings, *, picture: bool = False) -> str:
    """Write table.md, .tsv and .json of what has finished into a sweep's directory, and return the table.

    Args:
      picture: draw pareto.png too.
    """
    entries = entries_of(sweep)
    test_set = _test_set(entries, None)
    text = f"{_markdown(entries, test_set)}\n\n{_NOTE.format(test_set=test_set)}"
    for name, content in (("table.md", text + "\n"), ("table.tsv", _tsv(entries, test_set))):
        with writing(sweep.out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    write_json(sweep.out / "table.json", [entry.as_dict() for entry in entries])
    if picture:
        plot_pareto(sweep.out / "pareto.png", entries, test_set)
    return text


def _test_set(entries: Sequence[Entry], wanted: str | None) -> str:
    names = [name for entry in entries if entry.label != NGRAM for name in entry.perplexities]
    if wanted is not None and wanted not in names:
        raise ConfigError(f"no perplexity on {wanted!r}", hint=nearest(wanted, set(names)))
    return wanted or ("eval" if "eval" in names else names[-1] if names else "eval")


def _markdown(entries: Sequence[Entry], test_set: str) -> str:
    head, *rows = _cells(entries, test_set)
    lines = [head, [":--", ":--", ":--", *["--:"] * (len(head) - 3)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _tsv(entries: Sequence[Entry], test_set: str) -> str:
    """Return the lines of numbers, with mean and spread in columns of their own."""
    sets = _sets(entries, test_set)
    head = ["lm", "method", "budget", "fit", "seeds", "bytes", "ratio", "mean_bits", "budget_bytes"]
    head += [f"{what}_{name}" for name in sets for what in ("ppl", "sd")] + ["seconds", "restarted", "gap"]
    lines = [head]
    for entry in entries:
        numbers = [each for name in sets for each in (entry.mean(name), entry.spread(name))]
        cells = [
            entry.lm,
            entry.label,
            entry.budget,
            entry.fit,
            ",".join(map(str, entry.seeds)),
            entry.bytes,
            entry.ratio,
            entry.mean_bits,
            entry.budget_bytes,
            *numbers,
            entry.seconds,
            entry.restarted,
            entry.gap,
        ]
        lines.append(
            ["" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in cells]
        )
    return "".join("\t".join(line) + "\n" for line in lines)


def _cells(entries: Sequence[Entry], test_set: str) -> list[list[str]]:
    sets = _sets(entries, test_set)
    baseline = next((entry for entry in entries if entry.label == FLOAT), None)
    head = ["method", "budget", "fit", "seeds", "bytes", "times smaller", "bits", *(f"PPL {name}" for name in sets)]
    lines = [[*head, "over float", "over uniform", "seconds", "gap"]]
    for entry in entries:
        lines.append(
            [
                f"{entry.lm} {entry.label}" if entry.label == FLOAT else entry.label,
                entry.budget or _NONE,
                entry.fit or _NONE,
                str(len(entry.seeds)) if entry.seeds else _NONE,
                _number(entry.bytes, "{:,}"),
                _number(entry.ratio, "{:.2f}"),
                _number(entry.mean_bits, "{:.2f}"),
                *(_perplexity(entry, name) for name in sets),
                _relative(entry, baseline, test_set) if entry.label != NGRAM else _NONE,
                _over_uniform(entry, entries, test_set),
                _number(entry.seconds, "{:.0f}") + ("+" if entry.restarted else ""),
                _number(entry.gap, "{:.1g}"),
            ]
        )
    return lines


def _over_uniform(entry: Entry, entries: Sequence[Entry], test_set: str) -> str:
    """Return the relative difference to uniform precision at equal bytes and fit, starred outside the seeds' ranges."""
    if entry.label in (FLOAT, NGRAM, "uniform"):
        return _NONE
    for other in entries:  # the best of a budget first: with that is compared what trains its own weights
        if other.label == "uniform" and other.budget == entry.budget and entry.fit in (OWN, other.fit):
            ours, theirs = entry.perplexities[test_set], other.perplexities[test_set]
            apart = max(ours) < min(theirs) or max(theirs) < min(ours)
            enough = min(len(ours), len(theirs)) > 1
            return _relative(entry, other, test_set) + ("*" if apart and enough else "")
    return _NONE


def _relative(entry: Entry, other: Entry | None, test_set: str) -> str:
    if other is None or other is entry:
        return _NONE
    ours, theirs = entry.mean(test_set), other.mean(test_set)
    return _NONE if ours is None or not theirs else f"{100 * (ours / theirs - 1):+.1f}%"


def _perplexity(entry: Entry, name: str) -> str:
    spread = entry.spread(name)
    return _number(entry.mean(name), "{:.2f}") + (f" ± {spread:.2f}" if spread is not None else "")


def _sets(entries: Sequence[Entry], test_set: str) -> list[str]:
    names = {name for entry in entries if entry.label != NGRAM for name in entry.perplexities}
    return [*sorted(names - {test_set}, key=lambda name: (name != "dev", name)), test_set]


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)


def _command(settings: SweepTableSettings) -> str:
    given = (("--test-set", settings.test_set), ("--into", settings.into), ("--plot", settings.plot))
    words = [str(word) for name, value in given if value is not None for word in (name, value)]
    return shlex.join(["mpq", "sweep", "table", *words, *map(str, settings.outs)])
