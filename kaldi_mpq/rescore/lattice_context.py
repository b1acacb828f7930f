# SPDX-License-Identifier: Apache-2.0
"""Whole lattices in context: each utterance starts from where its conversation's best paths have left the models.

Conversations go side by side, and an utterance is begun as soon as the one before it is over, so lattices are needed
in another order than that of the archives. They are put on disk first, all conversations' first utterances are read
from there, then the second ones, and what comes of them goes to disk again, until the archives are put together. So
memory holds what is being searched and a little more. Nothing depends on which utterances share an archive.

Not here: who waits for whom (`turns`), the searches (`composition`), states (`lm.carried`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kaldi_mpq import native
from kaldi_mpq.rescore.gathering import read_conversations
from kaldi_mpq.rescore.lattice_pool import LatticePool
from kaldi_mpq.rescore.turns import by_turn

if TYPE_CHECKING:
    from kaldi_mpq.rescore.lattice_run import LatticeRescorer, LatticeTally

__all__ = ["rescore_in_context"]

log = logging.getLogger(__name__)

_BATCH_ARCS = 200_000


def rescore_in_context(
    rescorer: LatticeRescorer,
    archives: Mapping[Path, Path],
    others: Iterable[Path],
    conversations: Sequence[Sequence[str]],
    folder: Path,
    *,
    window: int,
    text: bool = False,
) -> LatticeTally:
    """Rescore archives, each of which becomes another with the same keys in the same order; return what was done.

    An utterance that goes through unchanged, or that is in no archive, leaves its conversation as it was.

    Args:
      archives: what is read, and what is written of it.
      others: archives that are read for what was said before the utterances of those.
      conversations: utterances of each, in the order in which they were spoken.
      folder: for lattices while they wait; a few times as large as the archives.
      window: words that a transformer sees.
      text: write text lattices.
    Raises:
      TextError: an utterance is in no conversation.
      LatticeError: an archive is damaged, or an utterance is there twice; nothing is written then.
    """
    before, after = LatticePool(folder / "before.ark"), LatticePool(folder / "after.ark")
    keys: dict[Path, list[str]] = {source: [] for source in archives}
    with before.filling() as add:

        def take(source: Path, lattices: native.Lattices) -> None:
            add(lattices)
            if source in keys:
                keys[source] += lattices.keys

        read_conversations(list(archives), others, conversations, take)
    present = [[key for key in conversation if key in before] for conversation in conversations]
    turns = [utterances for utterances in present if utterances]
    asked = set().union(*keys.values())
    batches = before.read(by_turn(turns), _BATCH_ARCS)
    with after.filling() as add:
        tally = rescorer.rescore_batches(batches, add, rescorer.turns(turns, window), asked)
    for source, target in archives.items():
        with native.LatticeWriter(str(target), text=text) as writer:
            for lattices in after.read(keys[source], _BATCH_ARCS):
                writer.write(lattices)
        log.info("%s: %d utterances", target, len(keys[source]))
    return tally
