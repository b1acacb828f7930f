# SPDX-License-Identifier: Apache-2.0
"""One cell: search, fit, pack, measure; ended at any point, the same command leaves the same row."""

import pytest

from kaldi_mpq.artefact import read_json, write_json
from kaldi_mpq.errors import ConfigError, MissingInputError
from kaldi_mpq.lm.perplexity import perplexity
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.settings import as_plain, build
from kaldi_mpq.sweep import cell as cell_module
from kaldi_mpq.sweep.cell import PLAN, run_cell
from kaldi_mpq.sweep.plan import cells_of
from kaldi_mpq.sweep.settings import CellSettings, SweepSettings
from kaldi_mpq.text.corpus import Corpus
from tests.sweep.conftest import QUICK

KL = {"method": "kl", "budget": "uniform_bits=2"}


def start(settings):
    """Write what ``mpq sweep`` writes before its first job."""
    write_json(settings.out / PLAN, as_plain(settings))


@pytest.fixture(scope="module")
def whole_row(toy_lm, toy_data, tmp_path_factory):
    """The row of a cell that nothing has disturbed."""
    out = tmp_path_factory.mktemp("whole")
    values = {"lm": toy_lm, "data": toy_data, "out": out, **QUICK, "cells": [KL]}
    return run(build(SweepSettings, values), "kl_2bit_s1_ste")


def run(settings, name):
    """Run a cell and return its row."""
    start(settings)
    assert name in run_cell(CellSettings(settings.out, name))
    return read_json(settings.out / "cells" / name / "row.json")


def test_a_row_says_what_is_on_disk(sweep_of, toy_data):
    """Bytes of the file, not larger than the budget; the perplexity of the file; whose search, whose seed."""
    settings = sweep_of(KL)
    row = run(settings, "kl_2bit_s1_ste")
    path = settings.out / "cells" / "kl_2bit_s1_ste" / "model.mpq"
    assert row["bytes"] == path.stat().st_size <= row["budget_bytes"]
    assert row["perplexity"] == {"dev": perplexity(open_lm(path), Corpus.load(toy_data / "dev.ids")).value}
    assert row["allocation_gap"] == 0
    assert row["sensitivity"] <= row["uniform_sensitivity"] * (1 + 1e-9)
    assert set(row["seconds"]) == {"search", "fit", "pack", "perplexity"}
    assert (row["seed"], row["restarted"]) == (1, False)
    assert not path.with_name("model.safetensors").exists()  # the file has it all


def test_what_is_finished_is_not_done_again(sweep_of, monkeypatch):
    """A finished cell runs nothing; another fit of the same search takes its result."""
    settings = sweep_of({**KL, "fit": ["ste", "round"]})
    first = run(settings, "kl_2bit_s1_ste")
    monkeypatch.setattr("kaldi_mpq.search.run.search_bits", None)
    other = run(settings, "kl_2bit_s1_round")
    assert other["seconds"]["search"] == first["seconds"]["search"]
    monkeypatch.setattr("kaldi_mpq.fit.run.fit_lm", None)
    assert run(settings, "kl_2bit_s1_ste") == first


@pytest.mark.parametrize("point", ["search", "fit", "pack", "perplexity", "row"])
def test_ended_at_any_point_it_goes_on(whole_row, sweep_of, tmp_path, monkeypatch, point):
    """In the search, in the middle of training, before packing, before measuring, before the row: the same row."""
    settings = sweep_of(KL, out=tmp_path / "broken", fits={"ste": {**FIT, "checkpoint_minutes": 1e-9}})
    with monkeypatch.context() as patch:
        stop_at(patch, point)
        with pytest.raises(KeyboardInterrupt):
            run(settings, "kl_2bit_s1_ste")
    assert not (settings.out / "cells" / "kl_2bit_s1_ste" / "row.json").exists()
    row = run(settings, "kl_2bit_s1_ste")
    for key in ("perplexity", "budget_bytes", "made_with"):  # the stamp in the file has paths
        assert row[key] == whole_row[key], key
    assert row["restarted"]


FIT = {"method": "ste", "epochs": 1, "batch_tokens": 300, "warmup_steps": 5}


def stop_at(patch, point):
    """Make a step of the cell end as Ctrl-C ends it, once it has begun."""
    from kaldi_mpq.lm.train import Trainer

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    one_step = Trainer._one_step
    places = {
        "search": "kaldi_mpq.search.measures.Measures.joint_divergence",
        "pack": "kaldi_mpq.pack.write.write_packed",
        "perplexity": "kaldi_mpq.pack.load.open_lm",
    }
    if point == "fit":
        patch.setattr(Trainer, "_one_step", lambda self, batch: stopped() if self.step == 3 else one_step(self, batch))
    elif point == "row":
        patch.setattr(cell_module, "stamp", stopped)
    else:
        patch.setattr(places[point], stopped)


def test_methods_that_train_are_packed_as_they_are(sweep_of):
    """CSQ's own weights: one training, one file, no fit."""
    settings = sweep_of({"method": "csq", "budget": "uniform_bits=2"})
    row = run(settings, "csq_2bit_s1_own")
    assert "fit" not in row["seconds"]
    assert row["bytes"] <= row["budget_bytes"]
    trained = read_json(settings.out / "search" / "csq_2bit_s1" / "ppl.json")["dev"]["perplexity"]
    assert row["perplexity"]["dev"] == pytest.approx(trained, rel=1e-6)


def test_the_package_diffq_is_a_method_like_another(sweep_of):
    """Its own file is what counts; nothing of ours is packed."""
    pytest.importorskip("diffq", reason="the extra [diffq] is not installed")
    settings = sweep_of({"method": "diffq", "budget": 12_000})
    row = run(settings, "diffq_12000bytes_s1_own")
    path = settings.out / "search" / "diffq_12000bytes_s1" / "model.diffq"
    assert row["bytes"] == path.stat().st_size <= row["budget_bytes"] == 12_000
    assert row["perplexity"]["dev"] > 1


def test_rows_of_other_settings_are_refused(sweep_of):
    """The message says which setting was what and is now what."""
    run(sweep_of(KL), "kl_2bit_s1_ste")
    with pytest.raises(ConfigError, match=r"other settings.*fit learning_rate: 0\.0, now 0\.004"):
        run(sweep_of(KL, fits={"ste": {**FIT, "learning_rate": 0.004}}), "kl_2bit_s1_ste")


def test_a_setting_that_is_newer_than_a_row_is_taken_for_its_default(sweep_of):
    """Rows outlive a version in which a verb has one option more."""
    settings = sweep_of({"method": "uniform", "budget": "uniform_bits=2", "fit": "round"})
    row = run(settings, "uniform_2bit_s1_round")
    path = settings.out / "cells" / "uniform_2bit_s1_round" / "row.json"
    for verb, name in (("fit", "scale_rate"), ("search", "tolerance"), ("search", "candidates")):
        del row["made_with"][verb][name]
    write_json(path, row)
    assert run(settings, "uniform_2bit_s1_round") == row


def test_a_cell_must_be_one(sweep_of, tmp_path):
    """No sweep there, or none with such a cell."""
    with pytest.raises(MissingInputError, match="mpq sweep writes it"):
        run_cell(CellSettings(tmp_path, "kl"))
    start(sweep_of(KL))
    with pytest.raises(ConfigError, match="did you mean 'kl_2bit_s1_ste'"):
        run_cell(CellSettings(tmp_path / "out", "kl_2bit_s2_ste"))
    assert [cell.name for cell in cells_of(sweep_of(KL))] == ["kl_2bit_s1_ste"]
