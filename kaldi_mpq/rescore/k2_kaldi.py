# SPDX-License-Identifier: Apache-2.0
"""Any k2 FsaVec as Kaldi lattices: those that `k2_fsas` made, bit for bit, and what icefall decodes.

Costs and transition-ids are taken from the first that the FsaVec has of

* what `k2_fsas.to_fsas` put there (``graph_cost``, ``acoustic_cost``, ``tids``), whatever ``scores`` became since;
* ``lm_scores`` and ``am_scores``: graph cost = -lm_scores, acoustic cost = -am_scores / acoustic_scale;
* ``scores`` and one of these two, which is a part of ``scores``; the rest is the other one;
* ``scores``, all of them acoustic; graph costs are then 0.

An arc becomes an arc with its first word; further words follow on arcs of their own. Where several final arcs leave a
state, or one has words, k2's final state is a state of the lattice. States keep their order.

Not here: Kaldi lattices as an FsaVec (`k2_fsas`), and rescoring (`k2_rescore`). k2 itself is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kaldi_mpq.errors import ConfigError, LatticeError
from kaldi_mpq.native.archive import Lattices
from kaldi_mpq.rescore.k2_fsas import Ragged, offsets_of

if TYPE_CHECKING:
    import k2

__all__ = ["to_kaldi"]


def to_kaldi(
    fsas: k2.Fsa,
    keys: Sequence[str] | None = None,
    *,
    acoustic_scale: float = 1.0,
    words: str = "aux_labels",
    frames: str | None = "labels",
    frame_offset: int = 1,
) -> Lattices:
    """Return the FSAs of an FsaVec as Kaldi lattices; the module says what becomes of scores and words.

    Each label but the final -1 becomes a transition-id, so that Kaldi's tools count frames as k2 did: an arc of
    `k2.intersect_dense_pruned` is one frame, also that of a blank (0). Kaldi takes 0 for no frame: hence the offset.

    Args:
      keys: (F) utterance ids, without white space; None: those of the Kaldi lattices that the FSAs were.
      acoustic_scale: the scale that Kaldi's programs will be called with (``--acoustic-scale``, 1 / LMWT): 0.1 where a
        recipe's ``score.sh`` sweeps LMWT around 10. Not for costs that came from Kaldi.
      words: the attribute with words, 0 for none, a tensor or ragged; "labels" after a lattice was inverted.
      frames: the attribute with a symbol for each frame, a tensor or ragged; None: transition-ids are left out, which
        ctm-based scoring cannot do without.
      frame_offset: a transition-id is the symbol plus this.
    Raises:
      ConfigError: an attribute or the keys are missing, or transition-ids would not be positive.
      LatticeError: keys do not fit the lattices.
    """
    if not acoustic_scale > 0:
        raise ConfigError("acoustic_scale out of range", expected="> 0", found=acoustic_scale)
    fsas = fsas.to("cpu")
    shape = _Shape.of(fsas)
    exact = all(hasattr(fsas, name) for name in ("graph_cost", "acoustic_cost", "tids"))
    if exact:
        graph, acoustic = (_column(fsas, name).astype(np.float64) for name in ("graph_cost", "acoustic_cost"))
        tids = _lists(fsas, "tids")
    else:
        graph, acoustic = _costs(fsas, acoustic_scale)
        tids = _transition_ids(fsas, frames, frame_offset, shape.is_final)
    origin = _Origin.of(fsas, shape, keys)
    arcs = _Expanded.of(shape, _words(fsas, words, shape.is_final), origin.start)
    sources, from_arc = arcs.source, np.where(arcs.position == 0, arcs.arc, -1)
    arc_tids, final_tids = tids.take(from_arc), tids.take(arcs.final_arc)
    return Lattices.from_arrays(
        keys=origin.keys,
        compact=origin.compact | _needs_compact(arcs, arc_tids, final_tids),
        start=np.where(np.diff(arcs.states_before) > 0, np.minimum(origin.start, np.diff(arcs.states_before) - 1), -1),
        state_offsets=arcs.states_before,
        arc_offsets=offsets_of(np.bincount(sources, minlength=arcs.states_before[-1])),
        final_graph=_of(graph, arcs.final_arc, arcs.if_no_final),
        final_acoustic=_of(acoustic, arcs.final_arc, arcs.if_no_final),
        final_tid_offsets=final_tids.offsets,
        final_tids=final_tids.values,
        arc_word=arcs.word,
        arc_dest=arcs.dest,
        arc_graph=_of(graph, from_arc, np.zeros(len(from_arc))),
        arc_acoustic=_of(acoustic, from_arc, np.zeros(len(from_arc))),
        arc_tid_offsets=arc_tids.offsets,
        arc_tids=arc_tids.values,
    )


@dataclass(frozen=True)
class _Shape:
    """An FsaVec of F FSAs, S states and A arcs; states are numbered through all FSAs."""

    states_before: NDArray[np.int64]  # F + 1
    arcs_before: NDArray[np.int64]  # S + 1
    source: NDArray[np.int64]  # A
    dest: NDArray[np.int64]  # A
    is_final: NDArray[np.bool_]  # A

    @classmethod
    def of(cls, fsas: k2.Fsa) -> _Shape:
        ragged, rows = fsas.arcs.shape(), fsas.arcs.values().numpy()
        if ragged.num_axes == 2:  # one FSA
            arcs_before = ragged.row_splits(1).numpy().astype(np.int64)
            states_before = np.array([0, len(arcs_before) - 1])
        else:
            states_before, arcs_before = (ragged.row_splits(axis).numpy().astype(np.int64) for axis in (1, 2))
        source = np.repeat(np.arange(len(arcs_before) - 1), np.diff(arcs_before))
        return cls(states_before, arcs_before, source, source - rows[:, 0] + rows[:, 1], rows[:, 2] == -1)

    @property
    def fsa_of_state(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.states_before) - 1), np.diff(self.states_before))


@dataclass(frozen=True)
class _Expanded:
    """Arcs of the lattices, sorted by state; S' states, in `source` numbered through all lattices."""

    states_before: NDArray[np.int64]  # F + 1
    arc: NDArray[np.int64]  # arc of the FsaVec that an arc belongs to
    position: NDArray[np.int64]  # 0 for the arc that takes over its costs, 1, 2, ... for further words
    source: NDArray[np.int64]
    dest: NDArray[np.int64]  # within the lattice
    word: NDArray[np.int32]
    final_arc: NDArray[np.int64]  # S', the arc that is the state's final weight, or -1
    if_no_final: NDArray[np.float64]  # S', the cost of ending there without one: 0 in k2's final state, else infinity

    @classmethod
    def of(cls, shape: _Shape, words: Ragged, start: NDArray[np.int64]) -> _Expanded:
        is_weight = _first_of_state(shape, shape.is_final & (words.sizes == 0))
        count = np.where(is_weight, 0, np.maximum(words.sizes, 1))
        extra = np.maximum(count - 1, 0)  # states between the words of an arc
        extra_before = offsets_of(extra)
        ends = shape.states_before[1:][np.diff(shape.states_before) > 0] - 1  # k2's final states
        width = 1 + extra_before[shape.arcs_before[1:]] - extra_before[shape.arcs_before[:-1]]
        width[ends] = np.bincount(shape.dest[count > 0], minlength=len(width))[ends] > 0
        row = offsets_of(width)
        states_before = row[shape.states_before]
        number = _Renumbered(states_before, start)

        arc = np.repeat(np.arange(len(count)), count)
        position = np.arange(len(arc)) - np.repeat(offsets_of(count)[:-1], count)
        # The states between are behind the state that the arc leaves.
        between = (row[shape.source] + 1 + extra_before[:-1] - extra_before[shape.arcs_before[shape.source]])[arc]
        source = number(np.where(position == 0, row[shape.source][arc], between + position - 1))
        dest = number(np.where(position == count[arc] - 1, row[shape.dest][arc], between + position))
        word = np.zeros(len(arc), np.int32)
        has_word = words.sizes[arc] > 0
        word[has_word] = words.values[(words.offsets[:-1][arc] + position)[has_word]]
        final_arc, if_no_final = np.full(row[-1], -1), np.full(row[-1], np.inf)
        final_arc[number(row[shape.source[is_weight]])] = np.flatnonzero(is_weight)
        if_no_final[number(row[ends[width[ends] > 0]])] = 0.0
        order = np.argsort(source, kind="stable")
        lattice_start = np.repeat(states_before[:-1], np.diff(states_before))
        dest -= lattice_start[dest]
        parts = (arc[order], position[order], source[order], dest[order], word[order])
        return cls(states_before, *parts, final_arc, if_no_final)


class _Renumbered:
    """States numbered with the start where it was in Kaldi's lattice."""

    def __init__(self, states_before: NDArray[np.int64], start: NDArray[np.int64]) -> None:
        sizes = np.diff(states_before)
        first = np.repeat(states_before[:-1], sizes)
        local = np.arange(states_before[-1]) - first
        start = np.repeat(np.minimum(start, sizes - 1), sizes)
        self._number = first + np.where(local == 0, start, local - (local <= start))

    def __call__(self, states: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._number[states]


@dataclass(frozen=True)
class _Origin:
    """What each lattice is called, and what it was in Kaldi."""

    keys: list[str]
    compact: NDArray[np.bool_]
    start: NDArray[np.int64]

    @classmethod
    def of(cls, fsas: k2.Fsa, shape: _Shape, keys: Sequence[str] | None) -> _Origin:
        size = len(shape.states_before) - 1
        index = _lattice_numbers(fsas, shape)
        if keys is None:
            if index is None:
                raise ConfigError("no utterance ids", hint="pass keys=[...], one for each FSA")
            if (index < 0).any() or len(set(index.tolist())) < size:
                raise LatticeError("it is not clear which Kaldi lattice each FSA was", hint="pass keys=[...]")
            keys = [fsas.kaldi_keys[i] for i in index]
        if len(keys) != size:
            raise LatticeError("keys do not fit the FsaVec", expected=f"{size} keys", found=len(keys))
        if index is None:
            return cls(list(keys), np.ones(size, bool), np.zeros(size, np.int64))
        known = index >= 0
        compact = np.where(known, np.array([*fsas.kaldi_compact, 1], bool)[index], True)
        start = np.where(known, np.array([*fsas.kaldi_start, 0], np.int64)[index], 0)
        return cls(list(keys), compact, np.maximum(start, 0))


def _lattice_numbers(fsas: k2.Fsa, shape: _Shape) -> NDArray[np.int64] | None:
    """Return (F) which Kaldi lattice each FSA was, -1 where its arcs do not say; None if none was one."""
    if not hasattr(fsas, "kaldi_lattice") or not hasattr(fsas, "kaldi_keys"):
        return None
    numbers = _lists(fsas, "kaldi_lattice")
    index = np.full(len(shape.states_before) - 1, -1)
    fsa_of_arc = shape.fsa_of_state[shape.source]
    np.maximum.at(index, np.repeat(fsa_of_arc, numbers.sizes), numbers.values)
    unknown = index < 0  # such as an FSA without arcs
    in_place = np.arange(len(index))
    if len(index) == len(fsas.kaldi_keys) and (index[~unknown] == in_place[~unknown]).all():
        return in_place
    return index


def _column(fsas: k2.Fsa, name: str) -> NDArray:
    import torch

    value = getattr(fsas, name, None)
    if not isinstance(value, torch.Tensor):
        raise ConfigError(f"the FsaVec has no tensor attribute {name}", found=type(value).__name__)
    return value.detach().numpy()


def _lists(fsas: k2.Fsa, name: str) -> Ragged:
    """Return an attribute of the arcs as lists, whether it is ragged or has one number for each arc."""
    import torch

    value = getattr(fsas, name, None)
    if value is None:
        raise ConfigError(f"the FsaVec has no attribute {name}", hint="name another one, or the labels")
    if isinstance(value, torch.Tensor):
        return Ragged(np.arange(len(value) + 1), value.numpy().astype(np.int32))
    return Ragged(value.shape.row_splits(1).numpy().astype(np.int64), value.values.numpy().astype(np.int32))


def _words(fsas: k2.Fsa, name: str, is_final: NDArray[np.bool_]) -> Ragged:
    lists = _lists(fsas, name)
    final = np.repeat(is_final, lists.sizes)
    return _only(lists, (lists.values != 0) & ~(final & (lists.values == -1)))


def _transition_ids(fsas: k2.Fsa, name: str | None, offset: int, is_final: NDArray[np.bool_]) -> Ragged:
    if name is None:
        return Ragged(np.zeros(len(is_final) + 1, np.int64), np.zeros(0, np.int32))
    lists = _lists(fsas, name)
    final = np.repeat(is_final, lists.sizes)
    kept = _only(lists, ~(final & (lists.values == -1)))
    tids = kept.values + np.int32(offset)
    if len(tids) and tids.min() < 1:
        raise ConfigError("frame symbols do not become transition-ids", expected=">= 1", found=int(tids.min()),
                          hint="raise frame_offset, or name another attribute")  # fmt: skip
    return Ragged(kept.offsets, tids)


def _only(lists: Ragged, keep: NDArray[np.bool_]) -> Ragged:
    return Ragged(offsets_of(keep)[lists.offsets], lists.values[keep])


def _costs(fsas: k2.Fsa, acoustic_scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lost = np.isneginf(_column(fsas, "scores"))  # whatever its parts are: inf - inf is no number

    def part(name: str) -> NDArray[np.float64]:
        return np.where(lost, 0.0, _column(fsas, name).astype(np.float64))

    scores = part("scores")
    if hasattr(fsas, "lm_scores"):
        lm = part("lm_scores")
        am = part("am_scores") if hasattr(fsas, "am_scores") else scores - lm
    else:
        am = part("am_scores") if hasattr(fsas, "am_scores") else scores
        lm = scores - am
    return np.where(lost, np.inf, 0.0 - lm), np.where(lost, np.inf, 0.0 - am / acoustic_scale)


def _first_of_state(shape: _Shape, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (A) whether an arc is the first of the chosen ones (A) that leave its state."""
    before = offsets_of(chosen)[:-1]  # chosen arcs before this one
    return chosen & (before == before[shape.arcs_before[shape.source]])


def _needs_compact(arcs: _Expanded, arc_tids: Ragged, final_tids: Ragged) -> NDArray[np.bool_]:
    """Return (F) whether a lattice has more transition-ids than a (non-compact) Lattice can hold."""
    too_many = np.zeros(arcs.states_before[-1], bool)
    too_many[arcs.source[arc_tids.sizes > 1]] = True
    too_many |= final_tids.sizes > 0
    return np.diff(offsets_of(too_many)[arcs.states_before]) > 0


def _of(values: NDArray[np.float64], index: NDArray[np.int64], otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values at an index, or what else where it is -1."""
    out = otherwise.copy()
    out[index >= 0] = values[index[index >= 0]]
    return out
