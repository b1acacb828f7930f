# SPDX-License-Identifier: Apache-2.0
"""``mpq sweep``: every cell a job, its row kept whatever happens to the others, the table of what there is."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from kaldi_mpq.artefact import read_json, write_json
from kaldi_mpq.cli.main import main
from kaldi_mpq.errors import ConfigError, MissingInputError, MpqError
from kaldi_mpq.sweep.cell import hashes_of
from kaldi_mpq.sweep.plan import cells_of
from kaldi_mpq.sweep.run import _Run, sweep
from tests.conftest import ROOT
from tests.sweep.conftest import QUICK

UNIFORM = {"method": "uniform", "budget": ["uniform_bits=2", "uniform_bits=4"], "fit": ["ste", "round"]}

# Stands for run.pl: instead of the command, it copies the row that the test has laid down for the cell.
FAKE_RUNNER = r"""#!/usr/bin/env bash
out=${@: -2:1} name=${!#} here=$(dirname "$0")
echo "$name" >> "$here/calls"
if [ -e "$here/hang" ]; then echo $$ > "$here/pid"; sleep 60 & wait; fi
[ -e "$here/rows/$name.json" ] || { echo "no row" > "$1"; exit 1; }
mkdir -p "$out/cells/$name" "$out/search/${name%_*}"
touch "$out/search/${name%_*}/search.json"
cp "$here/rows/$name.json" "$out/cells/$name/row.json"
"""


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """Return a function that lays down rows of cells: (settings, perplexity of a cell) -> words for --cmd.

    No pictures are drawn: that takes longer than all else.
    """
    monkeypatch.setattr("kaldi_mpq.sweep.table.plot_pareto", lambda path, entries, name: None)
    script = tmp_path / "fake" / "run.pl"
    script.parent.mkdir()
    script.write_text(FAKE_RUNNER)
    script.chmod(0o755)

    def lay(settings, perplexity=lambda cell: 8.0 + cell.seed / 10):
        for cell in cells_of(settings):
            write_json(script.parent / "rows" / f"{cell.name}.json", row(settings, cell, perplexity(cell)))
        return str(script)

    return lay


def row(settings, cell, perplexity):
    """Return a row as a cell leaves it."""
    return {
        "cell": cell.name, "label": cell.label, "method": cell.search.method, "budget": cell.budget, "fit": cell.fit,
        "seed": cell.seed, "budget_bytes": 6000, "bytes": 5900 + cell.seed, "ratio": 2.0, "mean_bits": 16.0,
        "perplexity": {"dev": perplexity}, "seconds": {"search": 1.0, "fit": 2.0}, "restarted": False,
        "allocation_gap": None, "made_with": {**cell.made_with(), "inputs": hashes_of(settings)},
    }  # fmt: skip


def calls(tmp_path):
    """Return the names of the cells that were started, in order, and forget them."""
    path = tmp_path / "fake" / "calls"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_cells_run_in_order_and_only_once(sweep_of, runner, tmp_path):
    """The second call finds every row; one that is gone is the only one to be run again."""
    cmd = runner(sweep_of(UNIFORM, seeds=[1, 2]))
    settings = sweep_of(UNIFORM, seeds=[1, 2], cmd=cmd)
    text = sweep(settings)
    assert calls(tmp_path) == [cell.name for cell in cells_of(settings)]
    assert sweep(settings) == text
    assert calls(tmp_path) == []
    (settings.out / "cells" / "uniform_4bit_s1_ste" / "row.json").unlink()
    assert sweep(settings) == text
    assert calls(tmp_path) == ["uniform_4bit_s1_ste"]


def test_a_failed_cell_is_named_and_the_others_are_finished(sweep_of, runner, tmp_path):
    """Status 2 at the end; the table has the others; what shares a search that failed says so; another call goes on."""
    cmd = runner(sweep_of(UNIFORM))
    rows = tmp_path / "fake" / "rows"
    kept = (rows / "uniform_2bit_s1_ste.json").read_text()
    (rows / "uniform_2bit_s1_ste.json").unlink()
    settings = sweep_of(UNIFORM, cmd=cmd)
    with pytest.raises(MpqError, match=r"2 of 4 cells failed.*uniform_2bit_s1_ste: status 1, see .*log") as caught:
        sweep(settings)
    assert "uniform_2bit_s1_round: its search, which uniform_2bit_s1_ste was to run, has no result" in str(caught.value)
    assert {line["budget"] for line in read_json(settings.out / "table.json")} == {"", "uniform_bits=4"}
    (rows / "uniform_2bit_s1_ste.json").write_text(kept)
    calls(tmp_path)
    assert "4 cells" in sweep(settings)
    assert calls(tmp_path) == ["uniform_2bit_s1_ste", "uniform_2bit_s1_round"]


def test_the_table_is_there_after_every_cell(sweep_of, runner, tmp_path, monkeypatch):
    """Rows survive: when a job dies with the sweep, what had finished is in the table already."""
    cmd = runner(sweep_of(UNIFORM))
    settings = sweep_of(UNIFORM, cmd=cmd)

    def interrupted(self, name, reason, before=_Run._ended):
        before(self, name, reason)
        if name == "uniform_2bit_s1_round":
            raise KeyboardInterrupt

    monkeypatch.setattr("kaldi_mpq.sweep.run._Run._ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(settings)
    finished = {(line["budget"], line["fit"]) for line in read_json(settings.out / "table.json")}
    assert {("uniform_bits=2", "ste"), ("uniform_bits=2", "round")} <= finished


def test_only_takes_what_matches_and_what_that_needs(sweep_of, runner, tmp_path):
    """Patterns of names; a cell whose search another one runs brings that one along."""
    cmd = runner(sweep_of(UNIFORM))
    settings = sweep_of(UNIFORM, cmd=cmd, only=["*4bit*round"])
    sweep(settings)
    assert calls(tmp_path) == ["uniform_4bit_s1_ste", "uniform_4bit_s1_round"]
    with pytest.raises(ConfigError, match="no cell is called"):
        sweep(sweep_of(UNIFORM, cmd=cmd, only=["kl*"]))


def test_a_dry_run_only_lists(sweep_of, tmp_path):
    """Names in their order; nothing is written."""
    settings = sweep_of(UNIFORM, dry_run=True)
    assert sweep(settings).splitlines() == [*(cell.name for cell in cells_of(settings)), "4 cells"]
    assert not settings.out.exists()


def test_missing_inputs_are_told_before_anything_runs(sweep_of, tmp_path):
    """All files at once."""
    with pytest.raises(MissingInputError, match=r"missing 4 input\(s\)"):
        sweep(sweep_of(UNIFORM, lm=tmp_path / "nowhere"))
    with pytest.raises(MissingInputError, match=r"missing 3 input\(s\).*mpq text makes them"):
        sweep(sweep_of(UNIFORM, data=tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()


def test_rows_of_other_settings_stop_it_before_anything_runs(sweep_of, runner, tmp_path):
    """A changed fit under the same name is no fit of the same name."""
    cmd = runner(sweep_of(UNIFORM))
    sweep(sweep_of(UNIFORM, cmd=cmd, only=["*round", "*ste"]))
    calls(tmp_path)
    fits = {**QUICK["fits"], "ste": {**QUICK["fits"]["ste"], "epochs": 7}}
    with pytest.raises(ConfigError, match="fit epochs: 1, now 7"):
        sweep(sweep_of(UNIFORM, cmd=cmd, fits=fits))
    assert calls(tmp_path) == []


def test_real_cells_by_the_command_line(toy_lm, toy_data, tmp_path, capsys):
    """From a YAML file through local/run_jobs.sh to files within their budgets; one budget is too small: status 2."""
    config = tmp_path / "sweep.yaml"
    cells = [{"method": "uniform", "budget": ["uniform_bits=2", 100], "fit": "round"}]
    config.write_text(yaml.safe_dump({**QUICK, "cells": cells}))
    words = ["sweep", "--config", str(config), "--nj", "2", "--data", str(toy_data), str(toy_lm), str(tmp_path / "out")]
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.err.splitlines()[-1].startswith(
        "ERROR (mpq) 1 of 2 cells failed, found uniform_100bytes_s1_round: status 1"
    )
    log = (tmp_path / "out" / "log" / "uniform_100bytes_s1_round.log").read_text()
    assert "no width fits" in log or "budget is too small" in log
    assert "# Ended (code 2)" in log
    path = tmp_path / "out" / "cells" / "uniform_2bit_s1_round" / "model.mpq"
    (line,) = [line for line in read_json(tmp_path / "out" / "table.json") if line["label"] == "uniform"]
    assert line["bytes"] == path.stat().st_size <= line["budget_bytes"]
    results = tmp_path / "RESULTS.md"
    results.write_text("before\n<!-- sweep:start -->\nold\n<!-- sweep:end -->\nafter\n")
    assert (
        main(["sweep", "table", "--into", str(results), "--plot", str(tmp_path / "p.svg"), str(tmp_path / "out")]) == 0
    )
    text = results.read_text()
    assert text.startswith("before\n<!-- sweep:start -->\n\n| method |")
    assert text.endswith("<!-- sweep:end -->\nafter\n")
    assert "old" not in text
    assert "<svg" in (tmp_path / "p.svg").read_text()


def test_a_killed_sweep_ends_its_jobs_and_goes_on(sweep_of, runner, tmp_path, toy_lm, toy_data):
    """SIGTERM in the middle of a cell: its job ends too; the same command then runs what has no row."""
    cmd = runner(sweep_of(UNIFORM))
    config = tmp_path / "sweep.yaml"
    config.write_text(yaml.safe_dump({**QUICK, "cells": [UNIFORM]}))
    (tmp_path / "fake" / "hang").touch()
    words = ["--config", config, "--cmd", cmd, "--data", toy_data, toy_lm, tmp_path / "out"]
    command = [sys.executable, "-m", "kaldi_mpq.cli", "sweep", *map(str, words)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    pid = tmp_path / "fake" / "pid"
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "interrupted" in process.communicate(timeout=30)[1]
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    (tmp_path / "fake" / "hang").unlink()
    calls(tmp_path)
    settings = sweep_of(UNIFORM, cmd=cmd)
    sweep(settings)
    assert calls(tmp_path) == [cell.name for cell in cells_of(settings)]
    assert json.loads((tmp_path / "out" / "table.json").read_text())
