# SPDX-License-Identifier: Apache-2.0
"""Reversed lattices have the same paths, from their end."""

from __future__ import annotations

from hypothesis import given, settings

from kaldi_mpq.native.reversal import reverse
from tests.native.random_lattices import batches, readable


def without_epsilons(rows):
    """Return `readable` paths with their words alone."""
    return sorted((tuple(word for word in words if word), tids, *costs) for words, tids, *costs in rows)


@settings(max_examples=150, deadline=None)
@given(lattices=batches())
def test_every_path_is_there_from_its_end(lattices):
    """Words and transition-ids of each path are reversed, its costs the same; two reversals change nothing else."""
    once = reverse(lattices)
    assert once.keys == lattices.keys
    for i in range(len(lattices)):
        wanted = [(w[::-1], t[::-1], *costs) for w, t, *costs in without_epsilons(readable(lattices, i))]
        assert without_epsilons(readable(once, i)) == sorted(wanted)
        assert without_epsilons(readable(reverse(once), i)) == without_epsilons(readable(lattices, i))
