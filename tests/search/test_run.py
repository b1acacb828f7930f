# SPDX-License-Identifier: Apache-2.0
"""``mpq search`` from the command line: every budget is met by the packed file, nothing is measured twice."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kaldi_mpq.artefact import read_json
from kaldi_mpq.cli.main import main
from kaldi_mpq.errors import (
    ConfigError,
    MissingInputError,
    ModelFileError,
    NumericalError,
    PrecisionError,
    VocabularyError,
)
from kaldi_mpq.fit.run import fit_lm
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.pack.settings import PackSettings
from kaldi_mpq.pack.write import pack_lm
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.search import measures
from kaldi_mpq.search.kl import DivergenceMeter
from kaldi_mpq.search.problem import list_units, make_problem
from kaldi_mpq.search.run import search_bits
from kaldi_mpq.text.corpus import Corpus
from tests.search.tiny import settings_of

QUICK = {"sample_tokens": 200, "hessian_tokens": 100, "probes": 10}


def search(lm, data, out, **options):
    """Run a search and return what it wrote of itself."""
    search_bits(settings_of(lm, data, out, **{**QUICK, **options}))
    return read_json(out / "search.json")


def packed_bytes(lm, data, out, **options):
    """Return the size of the file when the LM is rounded to the widths in ``out`` and packed."""
    fit_lm(FitSettings(lm=lm, data=data, out=out / "fit", precision=out / "precision.json", method="round", threads=1,
                       device="cpu", **options))  # fmt: skip
    pack_lm(PackSettings(out / "fit", out / "model.mpq"))
    return (out / "model.mpq").stat().st_size


def forbid_measuring(monkeypatch):
    """Make any measurement an error."""

    def measured(*args, **kwargs):
        raise AssertionError("measured again")

    monkeypatch.setattr(measures.Measures, "_measure_kl", measured)
    monkeypatch.setattr(measures, "estimate_traces", measured)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "kl", "uniform_bits": 2},
        {"method": "kl", "mean_bits": 32, "units": "rows16", "granularity": "block", "block": 5},
        {
            "method": "kl",
            "ratio": 1.7,
            "units": "sublayer",
            "kl": "word",
            "granularity": "tensor",
            "context": "conversation",
        },
        {"method": "hessian", "uniform_bits": 4, "units": "matrix"},
        {"method": "hessian", "uniform_bits": 2, "trace": "total", "probe": "gaussian"},
        {"method": "uniform", "uniform_bits": 4},
        {"method": "random", "mean_bits": 20},
        {"method": "inverse", "uniform_bits": 2},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_the_packed_file_is_never_larger_than_the_budget(toy_lm, toy_data, tmp_path, options):
    """For every method, split and granularity; and it is hardly smaller than the size that was told."""
    found = search(toy_lm, toy_data, tmp_path, **options)
    fit = {name: options[name] for name in ("granularity", "block") if name in options}
    size = packed_bytes(toy_lm, toy_data, tmp_path, **fit)
    assert size <= found["bytes"] <= found["budget"]
    assert size > found["bytes"] - 2048 - 500
    names = {unit.name for unit in load_lm(toy_lm).units("gate" if "rows" not in str(options) else "rows16")}
    if options.get("units") != "matrix":
        assert set(PrecisionMap.read(tmp_path / "precision.json").bits) == names


def test_measured_widths_are_no_worse_than_uniform_ones(toy_lm, toy_data, tmp_path):
    """By the measured sensitivities, at the size of each uniform precision; the inverse ones are no better."""
    for bits in (1, 2, 4, 8):
        found = search(toy_lm, toy_data, tmp_path / "kl", uniform_bits=bits, around="float")
        assert found["sensitivity"] <= found["uniform_sensitivity"] * (1 + 1e-9)
        inverse = search(toy_lm, toy_data, tmp_path / "inverse", uniform_bits=bits, method="inverse")
        assert inverse["sensitivity"] >= found["sensitivity"] * (1 - 1e-9)
        assert inverse["bytes"] <= found["budget"]


@pytest.mark.parametrize("budget", [{"uniform_bits": 2}, {"mean_bits": 20}, {"uniform_bits": 1}], ids=str)
def test_the_parts_together_diverge_no_more_than_at_a_uniform_width(toy_lm, toy_data, tmp_path, budget):
    """Around a uniform width, or two next to the budget: what is kept is the best of all tried, uniform too."""
    found = search(toy_lm, toy_data, tmp_path, **budget)
    arounds = [each["around"] for each in found["tried"]]
    assert arounds == ([str(budget["uniform_bits"]), "uniform"] if "uniform_bits" in budget else ["2", "4", "uniform"])
    assert found["joint_divergence"] == min(each["joint_divergence"] for each in found["tried"])
    assert found["joint_divergence"] <= found["uniform_joint_divergence"]
    assert found["bytes"] <= found["budget"]


def test_a_part_is_measured_beside_parts_of_the_asked_width(toy_lm, toy_data, tmp_path):
    """Around 2 bits, a part at 2 bits is 2 bits everywhere: the same divergence, whichever the part."""
    found = search(toy_lm, toy_data, tmp_path, uniform_bits=2, around="2")
    beside = {key[1]: value for key, value in table_of(tmp_path, "2").items() if key[2] == 2}
    assert len(beside) == len(found["bits"]) > 3
    for value in beside.values():
        assert value == pytest.approx(found["uniform_joint_divergence"], rel=1e-4)


@pytest.mark.parametrize("method", ["kl", "hessian"])
def test_what_was_measured_is_not_measured_again(toy_lm, toy_data, tmp_path, monkeypatch, method):
    """The same command, another budget, fewer candidates, another reading of the numbers, another directory."""
    options = {"method": method, "mean_bits": 21, "around": "float"}
    first = search(toy_lm, toy_data, tmp_path / "a", **options)
    forbid_measuring(monkeypatch)
    again = search(toy_lm, toy_data, tmp_path / "a", **options)
    assert again["bits"] == first["bits"]
    search(toy_lm, toy_data, tmp_path / "a", **{**options, "mean_bits": 22, "candidates": (2, 8), "kl": "word"})
    other = search(toy_lm, toy_data, tmp_path / "b", **options, reuse=tmp_path / "a")
    assert other["bits"] == first["bits"]
    search(toy_lm, toy_data, tmp_path / "a", **{**options, "method": "inverse", "inverse_of": method})
    for changed in ({"seed": 2}, {"units": "matrix"}, {"granularity": "tensor"}):
        with pytest.raises(ConfigError, match=f"other {next(iter(changed))}"):
            search(toy_lm, toy_data, tmp_path / "c", **options, **changed, reuse=tmp_path / "a")
        with pytest.raises(AssertionError, match="measured again"):
            search(toy_lm, toy_data, tmp_path / "a", **options, **changed)


def test_an_interrupted_search_goes_on(toy_lm, toy_data, tmp_path, monkeypatch):
    """Stopped after some units, the same command measures only the others, and ends as an undisturbed one does."""
    whole = search(toy_lm, toy_data, tmp_path / "whole", mean_bits=21, around="float")
    measure = DivergenceMeter.measure
    calls = []

    def interrupted(self, values):
        calls.append(len(values))
        if len(calls) == 8:
            raise KeyboardInterrupt
        return measure(self, values)

    monkeypatch.setattr(DivergenceMeter, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(toy_lm, toy_data, tmp_path / "broken", mean_bits=21, around="float")
    found = search(toy_lm, toy_data, tmp_path / "broken", mean_bits=21, around="float")
    assert len(calls) == 1 + len(whole["bits"]) * 4 + 2
    assert found["bits"] == whole["bits"]
    tables = [(tmp_path / name / "sensitivity.tsv").read_text() for name in ("whole", "broken")]
    assert tables[0] == tables[1]


def test_an_interrupted_hessian_goes_on(toy_lm, toy_data, tmp_path, monkeypatch):
    """Traces of finished units are kept and lead to the same table."""
    options = {"method": "hessian", "mean_bits": 21}
    whole = search(toy_lm, toy_data, tmp_path / "whole", **options)
    write = measures.write_json
    calls = []

    def interrupted(path, value):
        write(path, value)
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(measures, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(toy_lm, toy_data, tmp_path / "broken", **options)
    assert search(toy_lm, toy_data, tmp_path / "broken", **options)["bits"] == whole["bits"]
    assert len(calls) == len(whole["bits"])
    assert not (tmp_path / "broken" / "probes.json").exists()


def test_floors_and_fixed_widths_are_kept(toy_lm, toy_data, tmp_path):
    """Also where they cost much."""
    options = {"floor": ("2", "layers.0.hh.*=4"), "fixed": ("layers.0.ih.forget=16",), "mean_bits": 22}
    bits = search(toy_lm, toy_data, tmp_path, **options)["bits"]
    assert min(bits.values()) >= 2
    assert all(width >= 4 for name, width in bits.items() if ".hh." in name)
    assert bits["layers.0.ih.forget"] == 16


def test_random_widths_differ_by_seed_and_fill_the_budget(toy_lm, toy_data, tmp_path):
    """One seed, one choice; no unit could have had its next width."""
    first, second, again = (
        search(toy_lm, toy_data, tmp_path / str(i), method="random", mean_bits=20, seed=seed)["bits"]
        for i, seed in enumerate((1, 2, 1))
    )
    assert first == again != second
    problem = make_problem(load_lm(toy_lm), settings_of(toy_lm, toy_data, tmp_path, mean_bits=20))
    for name, bits in first.items():
        more = [size for width, size in problem.bytes[name].items() if width > bits]
        grown = problem.file_bytes(first) - problem.bytes[name][bits] + min(more, default=10**9)
        assert grown > problem.budget


def test_prototypes_take_the_place_of_rounding(toy_lm, toy_data, tmp_path):
    """Weights of mpq fit at one width are what is measured there; at the others, rounding is."""
    plain = search(toy_lm, toy_data, tmp_path / "plain", mean_bits=21, around="float")
    for method in ("round", "ste"):
        fit_lm(FitSettings(lm=toy_lm, data=toy_data, out=tmp_path / method, bits=2, method=method, epochs=1, threads=1,
                           device="cpu"))  # fmt: skip
    rounded = search(
        toy_lm, toy_data, tmp_path / "a", mean_bits=21, around="float", prototypes=(f"2={tmp_path / 'round'}",)
    )
    trained = search(
        toy_lm, toy_data, tmp_path / "b", mean_bits=21, around="float", prototypes=(f"2={tmp_path / 'ste'}",)
    )
    assert rounded["bits"] == plain["bits"]
    tables = [table_of(tmp_path / name) for name in ("plain", "a", "b")]
    for key, value in tables[0].items():
        assert tables[1][key] == pytest.approx(value, rel=1e-4, abs=1e-12)
        assert (tables[2][key] == value) == (key[2] != 2)
    assert trained["made_by"]["settings"]["prototypes"] == [f"2={tmp_path / 'ste'}"]
    for wrong, message in ((f"4={tmp_path / 'ste'}", "other widths"), ("2", "BITS=DIR"), (f"3={tmp_path}", "BITS=DIR")):
        with pytest.raises(ConfigError, match=message):
            search(toy_lm, toy_data, tmp_path / "c", mean_bits=21, around="float", prototypes=(wrong,))
    with pytest.raises(MissingInputError):
        search(toy_lm, toy_data, tmp_path / "c", mean_bits=21, around="float", prototypes=(f"2={toy_lm}",))


def table_of(out, around="float"):
    """Return (around, unit, bits) -> divergence of a search."""
    lines = (out / "sensitivity.tsv").read_text().splitlines()[1:]
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    every = {(row["around"], row["unit"], int(row["bits"])): float(row["kl_vocabulary"]) for row in rows}
    return {key: value for key, value in every.items() if key[0] == around}


def test_the_command_writes_its_files_and_a_picture(toy_lm, toy_data, tmp_path, capsys):
    """The summary is the last line; search.json has times, seed and settings."""
    words = ["search", "--ratio", "1.5", "--data", str(toy_data), "--sample-tokens", "100", str(toy_lm), str(tmp_path)]
    assert main(words) == 0
    assert "times smaller than float32" in capsys.readouterr().out.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "precision.json",
        "sensitivity.tsv",
        "search.json",
        "bits.png",
        "budgets.png",
    }
    for name in ("bits.png", "budgets.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "search.json").read_text())
    assert found["seconds"] >= found["allocation_seconds"] >= 0
    assert found["made_by"]["settings"]["ratio"] == 1.5


def test_units_are_listed_with_their_sizes(toy_lm):
    """Names, parameters and bytes at each width, more for more bits."""
    units = list_units(load_lm(toy_lm), "sublayer", (1, 2, 4, 8), Granularity())
    assert [unit["unit"] for unit in units][:2] == ["embedding", "layers.0.input"]
    for unit in units:
        sizes = [unit["bytes"][bits] for bits in (1, 2, 4, 8)]
        assert sizes == sorted(sizes)
        assert sizes[3] > unit["parameters"]


def test_bad_input_is_refused_in_one_line(toy_lm, toy_data, tmp_path):
    """Budgets, patterns, candidates, files, words and weights that are wrong."""
    with pytest.raises(PrecisionError, match=r"budget is too small.*expected \d+ to \d+ bytes"):
        search(toy_lm, toy_data, tmp_path, budget=100)
    with pytest.raises(PrecisionError, match="no unit is called layer"):
        search(toy_lm, toy_data, tmp_path, mean_bits=21, floor=("layer=2",))
    for wrong in ({}, {"budget": 1, "ratio": 2}, {"ratio": -1}, {"mean_bits": 2, "candidates": (3,)},
                  {"mean_bits": 2, "probes": 1}):  # fmt: skip
        with pytest.raises(ConfigError):
            settings_of(toy_lm, toy_data, tmp_path, **wrong)
    for wrong in ({"floor": ("x",)}, {"fixed": ("embedding=5",)}, {"floor": ("16",)}, {"units": "word"}):
        with pytest.raises(ConfigError):
            search(toy_lm, toy_data, tmp_path, mean_bits=21, **wrong)
    with pytest.raises(MissingInputError, match="missing 4 input"):
        search(tmp_path / "no", tmp_path / "nowhere", tmp_path, mean_bits=21)
    assert main(["search", "--ratio", "16", str(tmp_path), str(tmp_path)]) == 2


def test_damaged_inputs_are_refused(toy_lm, toy_data, tmp_path, monkeypatch):
    """NaN weights, other words, a table that is none, a sensitivity that is infinite."""
    broken = shutil.copytree(toy_lm, tmp_path / "nan")
    tensors = load_file(broken / "model.safetensors")
    tensors["embedding.weight"][3, 1] = float("nan")
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(ModelFileError, match="embedding"):
        search(broken, toy_data, tmp_path / "out", mean_bits=21)
    other = shutil.copytree(toy_data, tmp_path / "data")
    (other / "words.txt").write_text("<eps> 0\n")
    with pytest.raises(VocabularyError):
        search(toy_lm, other, tmp_path / "out", mean_bits=21)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sensitivity.tsv").write_text("unit\tbits\n")
    with pytest.raises(Exception, match="not a table of sensitivities"):
        search(toy_lm, toy_data, tmp_path / "out", mean_bits=21)
    (tmp_path / "out" / "sensitivity.tsv").unlink()
    monkeypatch.setattr(torch, "log1p", lambda x: x * float("nan"))
    monkeypatch.setattr(torch, "logsumexp", lambda x, dim: x.sum(dim=dim) * float("nan"))
    with pytest.raises(NumericalError, match="embedding"):
        search(toy_lm, toy_data, tmp_path / "out", mean_bits=21)


def test_a_short_text_is_used_whole_and_an_empty_one_refused(toy_lm, toy_data, tmp_path, caplog):
    """Fewer tokens than asked for: a warning; none: an error."""
    short = shutil.copytree(toy_data, tmp_path / "data")
    corpus = Corpus.load(toy_data / "train.ids")
    Corpus(corpus.words[: corpus.offsets[2]], corpus.offsets[:3], corpus.conversation[:2]).save(short / "train.ids")
    search(toy_lm, short, tmp_path / "a", mean_bits=21)
    assert "all of it is the sample" in caplog.text
    Corpus(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int32)).save(short / "train.ids")
    with pytest.raises(Exception, match="no utterance to measure on"):
        search(toy_lm, short, tmp_path / "b", mean_bits=21)
