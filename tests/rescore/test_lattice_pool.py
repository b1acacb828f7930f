# SPDX-License-Identifier: Apache-2.0
"""A pool gives back what was put in, in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaldi_mpq import native
from kaldi_mpq.errors import LatticeError
from kaldi_mpq.rescore.lattice_pool import LatticePool
from tests.native.random_lattices import batches

FIELDS = ("compact", "start", "state_offsets", "arc_offsets", "final_graph", "final_acoustic", "final_tid_offsets",
          "final_tids", "arc_word", "arc_dest", "arc_graph", "arc_acoustic", "arc_tid_offsets", "arc_tids")  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=batches(max_lattices=6), seed=st.integers(0, 99), max_arcs=st.sampled_from([1, 10, 10**6]))
def test_what_was_put_in_comes_out_in_any_order(drawn, seed, max_arcs, tmp_path_factory):
    """Every array of every lattice, faulty ones too, some of them several times."""
    lattices = native.Lattices.concat([drawn])
    pool = LatticePool(tmp_path_factory.mktemp("pool, of lattices: 1") / "pool.ark")
    with pool.filling() as add:
        for part in np.array_split(np.arange(len(lattices)), 2):
            add(lattices.select(part))
    order = np.random.default_rng(seed).integers(0, max(len(lattices), 1), 9 if len(lattices) else 0)
    for chosen in (order, order[::-1]):
        wanted = lattices.select(chosen)
        parts = list(pool.read(wanted.keys, max_arcs))
        found = native.Lattices.concat(parts) if parts else lattices.select([])
        assert found.keys == wanted.keys
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


def test_an_utterance_that_is_there_twice_is_refused(decode, tmp_path):
    """Which of the two would come out?"""
    with native.LatticeReader(str(decode / "lat.1.gz")) as reader:
        lattices = next(iter(reader.batches(max_lattices=3)))
    pool = LatticePool(tmp_path / "pool.ark")
    with pytest.raises(LatticeError, match=f"there twice.*{lattices.keys[1]}"), pool.filling() as add:
        add(lattices)
        add(lattices.select([1]))
    assert lattices.keys[0] in pool and "other" not in pool
