# SPDX-License-Identifier: Apache-2.0
"""A set's features in memory, from lhotse's cuts, and batches of utterances of like length.

Not here: the network and its objective.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse import load_manifest
from numpy.typing import NDArray
from torch import Tensor

from kaldi_mpq.artefact import require

__all__ = ["Utterance", "batches", "padded", "read_set"]


@dataclass(frozen=True)
class Utterance:
    """Features and words of an utterance.

    Args:
      features: (T, filters) float32, their mean taken off.
    """

    key: str
    words: tuple[str, ...]
    features: NDArray[np.float32]


def read_set(directory: Path, keys: set[str] | None = None) -> list[Utterance]:
    """Return the utterances of a set, in the order of its cuts.

    Args:
      keys: those that are wanted; None: all.
    Raises:
      MissingInputError: it has no features.
    """
    require([directory / "cuts.jsonl.gz"], hint="run stage -4 first")
    found = []
    for cut in load_manifest(directory / "cuts.jsonl.gz"):
        (supervision,) = cut.supervisions
        if keys is None or supervision.id in keys:
            features = cut.load_features()
            words = tuple(supervision.text.split())
            found.append(Utterance(supervision.id, words, features - features.mean(axis=0)))
    return found


def padded(utterances: list[Utterance]) -> tuple[Tensor, Tensor]:
    """Return (N, T, filters) features, the last frame repeated, and (N) int32 lengths."""
    frames = torch.tensor([len(each.features) for each in utterances], dtype=torch.int32)
    longest = int(frames.max())
    rows = [np.pad(each.features, ((0, longest - len(each.features)), (0, 0)), mode="edge") for each in utterances]
    return torch.from_numpy(np.stack(rows)), frames


def batches(lengths: list[int], size: int, chance: np.random.Generator | None = None) -> Iterator[list[int]]:
    """Yield indices of utterances of like length, the longest first within a batch.

    Args:
      size: utterances in a batch.
      chance: shuffles batches, and a little who is with whom; None: from the longest to the shortest.
    """
    order = np.array(lengths, np.float64)
    if chance is not None:
        order *= chance.uniform(0.9, 1.1, len(order))
    ranked = np.argsort(-order, kind="stable")
    groups = [ranked[at : at + size] for at in range(0, len(ranked), size)]
    for group in groups if chance is None else [groups[i] for i in chance.permutation(len(groups))]:
        yield sorted(group.tolist(), key=lambda i: -lengths[i])
