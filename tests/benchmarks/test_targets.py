# SPDX-License-Identifier: Apache-2.0
"""The table of targets: what is met, what is not, and what was not measured."""

from __future__ import annotations

from peers.tables import as_table, profile_table, systems_table
from peers.targets import rows_of


def result(seconds, speed=1.0):
    """Return what is found of a system."""
    found = {"seconds": seconds, "cpu": seconds, "speed": speed, "gmac_per_second": speed}
    return {**found, "limit": "bytes", "difference": 0.0}


RESULTS = {
    "byte_limit": 200.0,
    "workloads": {
        "lstm": {
            "name": "lists",
            "unit": "words/s",
            "systems": {
                "ours": result([1.0, 2.0, 1.0]),
                "torch fp32": result([19.0, 44.0, 19.0]),
                "ONNX Runtime int8": {"skipped": "no .venv-peers"},
            },
        },
        "n": {"systems": {"N = 10": result([1.0]), "N = 1000": result([14.0])}},
        "threads": {"systems": {"1 thread(s)": result([1.0]), "2 thread(s)": result([0.6])}},
        "layer, 32 rows": {"systems": {"ours, 1 bits, 8-bit activations": result([1.0], 160.0)}},
        "output layer, 1 row": {
            "systems": {
                "ours, 2 bits, 8-bit activations": result([1e-3]),
                "ONNX Runtime 2 bits": result([2e-3]),
            }
        },
    },
    "memory": {"ratio": 0.2},
    "cold start": {"seconds": 0.5},
}


def row_of(what, ahead_of=None):
    """Return the line that begins so."""
    rows = [row for row in rows_of(RESULTS) if row.what.startswith(what)]
    return next(row for row in rows if ahead_of in (None, row.ahead_of))


def test_the_median_of_the_turns_is_held_against_the_target():
    """19, 22 and 19 times as fast: 20 is not met, and the table shows from what to what it went."""
    row = row_of("N-best 100, LSTM", "torch fp32")
    assert (row.measured, row.met) == ("19.00 x (19.00 to 22.00)", False)


def test_a_peer_that_is_not_there_is_no_success():
    """Neither met nor failed, with the reason."""
    row = row_of("N-best 100, LSTM", "ONNX Runtime int8")
    assert (row.measured, row.met) == ("skipped: no .venv-peers", None)


def test_smaller_is_better_where_it_is():
    """Time over paths and memory are bounded from above, gains from below."""
    met = [row_of(what).met for what in ("time, N = 1000", "memory", "two threads", "first utterance")]
    assert met == [True, True, False, False]


def test_products_are_held_against_the_limit_of_the_same_run():
    """160 is below 180, but 75% of 200 is below 160; without a peer the speed is there all the same."""
    row = row_of("1 bit(s), 512 x 2048, 32 rows")
    assert (row.measured, row.met) == ("160 GMAC/s, 80% of 200", True)
    assert row_of("2 bit(s), 512 x 2048, 32 rows").measured == "not measured"


def test_one_row_is_on_the_scale_of_the_targets():
    """Half of the peer's time is half of its 387 us on the processor that the target is for."""
    row = row_of("2 bit(s), 1024 x 30,080")
    assert (row.measured.partition(" us")[0], row.met) == ("194", False)


def test_tables_have_all_lines():
    """Every system and every target, in columns of one number."""
    table = systems_table(RESULTS["workloads"]["lstm"], {"bytes": 200.0})
    labels = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert labels == ["| ours", "| torch fp32", "| ONNX Runtime int8"]
    lines = as_table(rows_of(RESULTS)).splitlines()
    assert {line.count("|") for line in lines} == {6}
    shares = profile_table({"auto": {"seconds": {"network": 1.0, "tree": 3.0}}, "packed8": {"skipped": "no"}})
    assert ("| network | 25.0% |" in shares, "packed8" in shares) == (True, False)
