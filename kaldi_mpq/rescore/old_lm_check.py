# SPDX-License-Identifier: Apache-2.0
"""Is the old language model the one whose costs are in the lattices?

Graph costs hold, besides the language model's, those of transitions and pronunciations, which differ little between
paths of one utterance. So the language model that is inside explains nearly all of what differs between graph costs:

    explained = 1 - sum (dG - dOLD)^2 / sum dG^2,         d: less the mean over the utterance's paths

On the first 50 lattices of two archives it was 0.984 and 0.989 for the G.fst inside, 0.937 and 0.907 for the same
n-gram in the backoff reading (all that G.carpa and ARPA files have), and 0.883 and 0.848 for a 4-gram of the same text.

Not here: rescoring.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from kaldi_mpq import native

__all__ = ["doubt_old_lm", "explained_by"]

log = logging.getLogger(__name__)

_CHECKED = 50  # lattices that are enough to recognise the language model by
_BATCH_ARCS = 200_000
_PATHS = 10
_ENOUGH = {"fst": 0.95, "carpa": 0.9, "arpa": 0.9}
_READINGS_APART = 0.02  # where one explains so much more, it is not by chance


def explained_by(
    old: native.OldLm, lattices: native.Lattices, acoustic_scale: float, reading: str = "best"
) -> float:
    """Return which share of the differences between graph costs the language model explains, at most 1.

    Args:
      lattices: some dozens of utterances; those with one path say nothing.
      reading: of G.fst, see `OldLm.score`.
    Returns:
      NaN where no two paths of an utterance differ in graph cost.
    """
    paths = native.nbest(lattices, _PATHS, acoustic_scale)
    word_offsets, words = paths.words(lattices)
    word_costs, final_costs = old.score(word_offsets, words, reading)
    sums = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(word_costs), word_costs, 0.0))])
    impossible = np.concatenate([[0], np.cumsum(~np.isfinite(word_costs))])
    possible = (np.diff(impossible[word_offsets]) == 0) & np.isfinite(final_costs)
    old_costs = np.where(possible, np.diff(sums[word_offsets]) + np.where(possible, final_costs, 0.0), 0.0)
    utterance = np.repeat(np.arange(len(lattices)), np.diff(paths.lattice_offsets))

    def centred(costs: np.ndarray) -> np.ndarray:
        counts = np.bincount(utterance, possible, len(lattices))
        means = np.bincount(utterance, np.where(possible, costs, 0.0), len(lattices)) / np.maximum(counts, 1)
        return np.where(possible, costs - means[utterance], 0.0)

    graph = centred(paths.graph)
    total = float((graph**2).sum())
    return 1.0 - float(((graph - centred(old_costs)) ** 2).sum()) / total if total > 0 else float("nan")


def doubt_old_lm(old: native.OldLm, archive: Path, acoustic_scale: float, reading: str, other: str) -> None:
    """Warn in the log if the first lattices of an archive hold costs of another language model, or of another reading.

    Args:
      reading: how the costs of a G.fst will be taken out, ``best`` or ``backoff``.
      other: the option that chooses the other reading.
    """
    with native.LatticeReader(str(archive)) as reader:
        first = next(iter(reader.batches(max_arcs=_BATCH_ARCS, max_lattices=_CHECKED)), None)
    if first is None:
        return
    usable = np.array([reason is None for reason in native.check(first, 2**31 - 1)])
    usable_ones = first.select(np.flatnonzero(usable))
    readings = ("best", "backoff") if old.kind == "fst" else ("backoff",)
    explained = {name: explained_by(old, usable_ones, acoustic_scale, name) for name in readings}
    most = max(explained.values())
    if most < _ENOUGH[old.kind]:
        log.warning(
            "WARNING is %s the LM inside the lattices? It explains only %.0f%% of what differs between the graph costs "
            "of their paths (more than 90%% where it is). Another one: --old-lm", old.path, 100 * most,
        )  # fmt: skip
    elif explained.get(reading, most) < most - _READINGS_APART:
        log.warning(
            "WARNING %s backs off in another way inside the lattices: as it is read it explains %.0f%% of what differs "
            "between the graph costs of their paths, else %.0f%%. The other way: %s",
            old.path, 100 * explained[reading], 100 * most, other,
        )  # fmt: skip
