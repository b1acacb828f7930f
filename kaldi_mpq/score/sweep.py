# SPDX-License-Identifier: Apache-2.0
"""The best words of every lattice at every point of a sweep; archives are read once.

Most points give an utterance the same words, so it has a few hypotheses and each point has the number of one of them.

Not here: errors.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kaldi_mpq.errors import LatticeError, ScoringError

if TYPE_CHECKING:
    from kaldi_mpq.native import Lattices, Paths

__all__ = ["Hypothesis", "Point", "Sweep", "points_of", "sweep_lattices"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class Point:
    """LM weight (divisor of acoustic costs) and word insertion penalty (cost per word)."""

    lmwt: int
    word_ins_penalty: float

    def __str__(self) -> str:
        return f"LMWT {self.lmwt}, word insertion penalty {self.word_ins_penalty:g}"


@dataclass(frozen=True)
class Hypothesis:
    """Words of a best path, the frame at which each begins, and the frames of the path.

    Args:
      begins: as many as words, not decreasing; a word begins where its arc does, which is near its true time only.
        Empty in a sweep without times.
      frames: transition-ids of the path; 0 in a sweep without times.
    """

    words: tuple[str, ...]
    begins: tuple[int, ...]
    frames: int


@dataclass
class Sweep:
    """Hypotheses of U utterances at P points.

    Args:
      points: P points.
      hypotheses: the different hypotheses of each utterance, utterances in the order of the archives.
      choices: of each utterance, for each point the number of its hypothesis.
      unusable: utterances whose lattice has no path; they have no hypotheses.
    """

    points: tuple[Point, ...]
    hypotheses: dict[str, list[Hypothesis]] = field(default_factory=dict)
    choices: dict[str, list[int]] = field(default_factory=dict)
    unusable: list[str] = field(default_factory=list)

    def at(self, point: Point) -> dict[str, Hypothesis]:
        """Return every utterance's hypothesis at one point."""
        index = self.points.index(point)
        return {name: found[self.choices[name][index]] for name, found in self.hypotheses.items()}

    def require_references(self, known: Iterable[str], where: object) -> None:
        """Raise ScoringError naming the first utterances that are not among ``known``."""
        references = set(known)
        strangers = [name for name in (*self.hypotheses, *self.unusable) if name not in references]
        if strangers:
            listed = ", ".join(strangers[:5]) + (", ..." if len(strangers) > 5 else "")
            raise ScoringError(
                f"{len(strangers)} utterance(s) without a reference",
                where=where,
                found=listed,
                hint="does the decode directory belong to this data directory?",
            )


def points_of(min_lmwt: int, max_lmwt: int, penalties: Sequence[float]) -> tuple[Point, ...]:
    """Return the points in the order in which Kaldi looks for the best, where the first of equals wins."""
    return tuple(Point(lmwt, penalty) for penalty in penalties for lmwt in range(min_lmwt, max_lmwt + 1))


def sweep_lattices(
    paths: Sequence[Path], points: tuple[Point, ...], words: Sequence[str], *, with_times: bool = False
) -> Sweep:
    """Return the best path's words of every lattice in some archives, at every point.

    Args:
      words: word of each id.
      with_times: also the times of the words; hypotheses that differ in times only are then different.
    Raises:
      LatticeError: an archive cannot be read, an utterance is there twice, or a word id is beyond ``words``.
      ScoringError: there is not a single lattice.
    """
    from kaldi_mpq import native

    sweep = Sweep(points)
    for path in paths:
        with native.LatticeReader(path) as reader:
            for lattices in reader.batches():
                _add(sweep, lattices, words, with_times, path)
    if not sweep.hypotheses and not sweep.unusable:
        raise ScoringError("no lattices", where=paths[0].parent, found="empty archives")
    if sweep.unusable:
        listed = ", ".join(sweep.unusable[:5]) + (", ..." if len(sweep.unusable) > 5 else "")
        log.warning("%d utterance(s) whose lattice has no path count as deleted: %s", len(sweep.unusable), listed)
    return sweep


def _add(sweep: Sweep, lattices: Lattices, words: Sequence[str], with_times: bool, path: Path) -> None:
    """Add the hypotheses of a batch of lattices."""
    from kaldi_mpq import native

    keys = list(lattices.keys)
    for key in keys:
        if key in sweep.hypotheses:
            raise LatticeError(f"utterance {key} is there twice", where=path)
        sweep.hypotheses[key], sweep.choices[key] = [], []
    number_of: list[dict[Hypothesis, int]] = [{} for _ in keys]
    for point in sweep.points:
        paths = native.best_paths(lattices, 1.0 / point.lmwt, word_penalty=point.word_ins_penalty)
        for index, hypothesis in _hypotheses(lattices, paths, words, with_times, path):
            number = number_of[index].setdefault(hypothesis, len(number_of[index]))
            sweep.choices[keys[index]].append(number)
    for key, numbers in zip(keys, number_of):
        if len(sweep.choices[key]) != len(sweep.points):
            del sweep.hypotheses[key], sweep.choices[key]
            sweep.unusable.append(key)
        else:
            sweep.hypotheses[key].extend(numbers)


def _hypotheses(
    lattices: Lattices, paths: Paths, words: Sequence[str], with_times: bool, path: Path
) -> Iterator[tuple[int, Hypothesis]]:
    """Yield (index of the lattice, hypothesis) for every lattice that has a best path."""
    arc_words = lattices.arc_word[paths.arcs]
    if len(arc_words) and not 0 <= int(arc_words.min()) <= int(arc_words.max()) < len(words):
        found = f"{int(arc_words.min())} to {int(arc_words.max())}"
        raise LatticeError("word ids beyond words.txt", where=path, expected=f"0 to {len(words) - 1}", found=found)
    positions = np.flatnonzero(arc_words)
    first_word = np.searchsorted(positions, paths.arc_offsets).tolist()
    names = [words[word] for word in arc_words[positions].tolist()]
    begins, frames = _times(lattices, paths, positions) if with_times else ([], [0] * len(paths))
    for index, number in enumerate(paths.lattice_offsets[:-1].tolist()):
        if number < paths.lattice_offsets[index + 1]:
            its = slice(first_word[number], first_word[number + 1])
            yield index, Hypothesis(tuple(names[its]), tuple(begins[its]), frames[number])


def _times(lattices: Lattices, paths: Paths, positions: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the frame in its path at which each arc of ``positions`` begins, and the frames of each path."""
    frames_of_arc = np.diff(lattices.arc_tid_offsets)[paths.arcs]
    before = np.concatenate(([0], np.cumsum(frames_of_arc)))
    path_begin, path_end = before[paths.arc_offsets[:-1]], before[paths.arc_offsets[1:]]
    frames = path_end - path_begin + np.diff(lattices.final_tid_offsets)[paths.final_state]
    path_of = np.searchsorted(paths.arc_offsets, positions, side="right") - 1
    return (before[positions] - path_begin[path_of]).tolist(), frames.tolist()
