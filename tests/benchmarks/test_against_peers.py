# SPDX-License-Identifier: Apache-2.0
"""The benchmark itself, tiny: everything runs, all engines score alike, pictures are drawn."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from against_peers import check_names
from peers.pictures import draw_bits, draw_roofline
from peers.tables import systems_table

from tests.conftest import ROOT

PEERS = ROOT / ".venv-peers" / "bin" / "python"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return what a quick run wrote."""
    out = tmp_path_factory.mktemp("bench") / "found.json"
    command = [sys.executable, "benchmarks/against_peers.py", "--quick", "--only", "lstm", "layer, 32 rows", "profile"]
    done = subprocess.run([*command, "--out", out], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(out.read_text(encoding="utf-8"))


def test_engines_score_lists_alike(results):
    """Our kernels and torch's, float and int8, prefixes shared or not: costs of hypotheses differ by little."""
    systems = results["workloads"]["lstm"]["systems"]
    limits = {"ours, 8-bit activations": 0.02, "ours, unpacked to float32": 1e-3, "ours, no shared prefixes": 1e-6}
    limits |= {"torch fp32": 1e-3, "torch int8": 0.02}
    assert [label for label, limit in limits.items() if not systems[label]["difference"] < limit] == []
    assert "difference" not in systems["ours, self-normalised"]  # other scores on purpose


def test_the_prefix_tree_saves_evaluations(results):
    """Fewer than the distinct words and sentence ends, all of which a peer evaluates."""
    systems = results["workloads"]["lstm"]["systems"]
    assert systems["ours"]["evaluations"] < 0.8 * systems["torch fp32"]["evaluations"]
    assert systems["ours, no shared prefixes"]["evaluations"] > systems["ours"]["evaluations"]


def test_installed_peers_score_alike_too(results):
    """ONNX Runtime's int8 LSTM gives our scores up to its rounding."""
    if not PEERS.exists():
        pytest.skip("no .venv-peers: benchmarks/peers/make_env.sh makes it")
    systems = results["workloads"]["lstm"]["systems"]
    assert systems["ONNX Runtime int8"]["difference"] < 0.02


def test_absent_peers_have_a_reason(results):
    """A line for each, in the JSON as in the table."""
    if PEERS.exists():
        pytest.skip("the peers are installed")
    for name, workload in results["workloads"].items():
        absent = [row for label, row in workload["systems"].items() if label.startswith("ONNX Runtime")]
        assert absent, name
        assert all("make_env.sh" in row["skipped"] for row in absent)
        assert systems_table(workload, {}).count("skipped: no .venv-peers") == len(absent)


def test_profile_names_the_parts(results):
    """The network and the normalisation are there, and nothing is negative."""
    seconds = results["profile"]["auto"]["seconds"]
    assert seconds["network"] > 0
    assert seconds["normalisation over the vocabulary"] > 0
    assert min(seconds.values()) >= 0


def test_pictures_are_drawn(results, tmp_path):
    """From what there is, peers or none; they are small."""
    pytest.importorskip("matplotlib")
    for draw in (draw_roofline, draw_bits):
        path = tmp_path / f"{draw.__name__}.svg"
        draw(results, path)
        text = path.read_text(encoding="utf-8")
        assert "<svg" in text
        assert len(text) < 150_000


def test_an_unknown_part_is_refused():
    """A misspelt --only measures nothing and says so."""
    with pytest.raises(SystemExit, match="no lstn; there are lstm"):
        check_names(["lstn"], ["lstm"])
