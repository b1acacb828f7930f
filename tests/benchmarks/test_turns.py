# SPDX-License-Identifier: Apache-2.0
"""Systems that take turns: ratios within a turn, and peers that are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from peers.process import Worker
from peers.products import codes_of, rows_of, scale_of
from peers.protocol import Skipped
from peers.turns import Workers, ratio_of, take_turns
from peers.workloads import System, Workload

JOB = {"kind": "product", "columns": 128, "words": 48, "rows": 3, "threads": 1, "bits": 2}


def test_ratios_are_of_one_turn():
    """A turn in which the machine was slow for both says as much as another."""
    assert ratio_of([2.0, 20.0, 8.0], [1.0, 10.0, 2.0]) == (2.0, 2.0, 4.0)


def test_engines_compute_the_same_and_the_absent_one_says_why(tmp_path):
    """Ours and torch give the product of the same weights; a peer without its environment is a line with a reason."""
    systems = {
        "ours": System("own", JOB | {"activation_bits": 16}, macs=128 * 48 * 3),
        "theirs": System("torch_engine", JOB | {"way": "fp32"}, macs=128 * 48 * 3),
        "absent": System("onnx_runtime", JOB | {"way": "dynamic"}),
        "impossible": System("torch_engine", JOB | {"kind": "nbest transformer"}),
    }
    workers = Workers({"onnx_runtime": tmp_path / ".venv-peers" / "bin" / "python"})
    try:
        found = take_turns(Workload("product", "GMAC/s", 1.0, systems), workers, 2, tmp_path)
    finally:
        workers.close()
    assert [len(found[label]["seconds"]) for label in ("ours", "theirs")] == [2, 2]
    expected = rows_of(JOB) @ (codes_of(JOB) * np.float32(scale_of(JOB))).T
    assert found["theirs"]["difference"] < 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(np.load(tmp_path / "result.npy"), expected, atol=1e-5)
    assert "make_env.sh" in found["absent"]["skipped"]
    assert "nbest transformer" in found["impossible"]["skipped"]


def test_a_process_that_ends_is_named():
    """An engine that there is not: its process ends, and the benchmark goes on."""
    worker = Worker("no_such_engine", Path(sys.executable))
    with pytest.raises(Skipped, match="no_such_engine ended with status 1"):
        worker.prepare("x", JOB)


def test_codes_are_on_their_grid():
    """All levels of a width are there, and no others."""
    levels = {bits: set(np.unique(codes_of(JOB | {"bits": bits})).tolist()) for bits in (1, 2, 4)}
    assert levels == {1: {-1, 1}, 2: {-1, 0, 1}, 4: set(range(-7, 8))}
