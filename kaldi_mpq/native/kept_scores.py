# SPDX-License-Identifier: Apache-2.0
"""Every hypothesis of a decode directory with its costs under every language model: ``scores.J.npz`` beside lat.J.gz.

What weights give can be computed from it without running a language model again. Not here: how (`score.tune`).
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import ScoringError

__all__ = ["KeptScores"]

_PER_PATH = ("graph", "acoustic", "old")


@dataclass(frozen=True)
class KeptScores:
    """Costs, -ln p, of P paths of B utterances under K new language models.

    Args:
      keys: (B,) names of the utterances.
      unchanged: (B,) bool, utterances that went through unchanged: no weight but the acoustic one matters for them.
      lattice_offsets: (B + 1,) int64, which paths are of which utterance.
      word_offsets: (P + 1,) int64, which words are of which path.
      words: (W,) int32, word ids.
      graph: (P,) graph costs as they were read, the old language model's in them.
      acoustic: (P,) acoustic costs, unscaled.
      old: (P,) what the old language model says, sentence end included.
      terms: (K, P) what the new ones say.
      info: ``fusion`` (old_weight, word_bonus, terms) that the lattices were written with, ``inv_acwt``, ``made_by``.
    """

    keys: np.ndarray
    unchanged: np.ndarray
    lattice_offsets: np.ndarray
    word_offsets: np.ndarray
    words: np.ndarray
    graph: np.ndarray
    acoustic: np.ndarray
    old: np.ndarray
    terms: np.ndarray
    info: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of utterances B."""
        return len(self.keys)

    @property
    def num_words(self) -> np.ndarray:
        """(P,) int64, words of each path."""
        return np.diff(self.word_offsets)

    @classmethod
    def empty(cls, num_terms: int) -> KeptScores:
        """Return the scores of no utterances under ``num_terms`` models."""
        nothing = np.zeros(0)
        return cls(np.zeros(0, str), np.zeros(0, bool), np.zeros(1, np.int64), np.zeros(1, np.int64),
                   np.zeros(0, np.int32), nothing, nothing, nothing, np.zeros((num_terms, 0)))  # fmt: skip

    @classmethod
    def concat(cls, parts: Sequence[KeptScores], info: Mapping[str, Any] | None = None) -> KeptScores:
        """Return the utterances of one or more parts, one after the other."""
        return cls(
            keys=np.concatenate([part.keys for part in parts]),
            unchanged=np.concatenate([part.unchanged for part in parts]),
            lattice_offsets=_joined([part.lattice_offsets for part in parts]),
            word_offsets=_joined([part.word_offsets for part in parts]),
            words=np.concatenate([part.words for part in parts]),
            terms=np.concatenate([part.terms for part in parts], axis=1),
            info=parts[0].info if info is None else info,
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _PER_PATH},
        )

    def select(self, utterances: np.ndarray) -> KeptScores:
        """Return some of the utterances, in the order given."""
        paths, lattice_offsets = _pick(self.lattice_offsets, utterances)
        words, word_offsets = _pick(self.word_offsets, paths)
        return KeptScores(
            keys=self.keys[utterances],
            unchanged=self.unchanged[utterances],
            lattice_offsets=lattice_offsets,
            word_offsets=word_offsets,
            words=self.words[words],
            terms=self.terms[:, paths],
            info=self.info,
            **{name: getattr(self, name)[paths] for name in _PER_PATH},
        )

    def save(self, path: str | Path) -> None:
        """Write the scores, whole or not at all; a checksum guards every array."""
        arrays = {name: value for name, value in vars(self).items() if name != "info"}
        with writing(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, info=np.array(json.dumps(dict(self.info))), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> KeptScores:
        """Read what `save` wrote.

        Raises:
          MissingInputError, ScoringError: no such file, or a damaged one.
        """
        require([path], hint="mpq rescore nbest --keep-scores true writes it")
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return cls(info=json.loads(str(arrays.pop("info"))), **arrays)
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            hint = "make it again with mpq rescore nbest --keep-scores true"
            raise ScoringError("not a file of scores, or damaged", where=path, found=str(error), hint=hint) from error


def _joined(offsets: Sequence[np.ndarray]) -> np.ndarray:
    """Return the offsets of lists that follow each other."""
    return np.concatenate([[0], np.cumsum(np.concatenate([np.diff(one) for one in offsets]))]).astype(np.int64)


def _pick(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the elements of some rows, and the rows' new offsets."""
    lengths = offsets[rows + 1] - offsets[rows]
    new = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.repeat(offsets[rows] - new[:-1], lengths) + np.arange(new[-1]), new
