# SPDX-License-Identifier: Apache-2.0
"""The lattices of archives, and those of what was said before them, from whichever archives these lie in.

Not here: who is in which conversation (`text.conversations`), and what becomes of the lattices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from kaldi_mpq import native
from kaldi_mpq.errors import TextError

__all__ = ["read_conversations"]

log = logging.getLogger(__name__)

Take = Callable[[Path, native.Lattices], None]


def read_conversations(
    own: Sequence[Path], others: Iterable[Path], conversations: Sequence[Sequence[str]], take: Take
) -> None:
    """Pass on every lattice of ``own`` archives, and those that come before one of them in its conversation.

    Args:
      own: archives that are read whole.
      others: archives that are read for what is still missing, if anything is.
      conversations: utterances of each, in the order in which they were spoken.
      take: is called with an archive and some of its lattices, at least once for each archive that is read.
    Raises:
      TextError: an utterance of the own archives is in no conversation.
      LatticeError: an archive is damaged.
    """
    seen: set[str] = set()
    for path in own:
        seen |= _read(path, None, take)
    strangers = sorted(seen.difference(*conversations))
    if strangers:
        raise TextError(f"{len(strangers)} utterance(s) in no conversation", where=own[0].parent,
                        found=", ".join(strangers[:5]), hint="is --data their data directory?")  # fmt: skip
    missing = set().union(*(_up_to_the_last(seen, conversation) for conversation in conversations)) - seen
    for path in others:
        if not missing:
            break
        log.info("%s: reading it for %d utterance(s) of the same conversations", path, len(missing))
        missing -= _read(path, missing, take)


def _up_to_the_last(seen: set[str], conversation: Sequence[str]) -> Sequence[str]:
    """Return a conversation as far as it matters to utterances that were seen."""
    last = max((i for i, key in enumerate(conversation) if key in seen), default=-1)
    return conversation[: last + 1]


def _read(path: Path, wanted: set[str] | None, take: Take) -> set[str]:
    """Pass on an archive's (wanted) lattices; return their names."""
    seen: set[str] = set()
    with native.LatticeReader(str(path)) as reader:
        for lattices in reader.batches():
            if wanted is not None:
                lattices = lattices.select(np.flatnonzero([key in wanted for key in lattices.keys]))
            seen.update(lattices.keys)
            take(path, lattices)
    return seen
