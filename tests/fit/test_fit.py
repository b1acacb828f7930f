# SPDX-License-Identifier: Apache-2.0
"""``mpq fit`` end to end on a language that is learned in seconds."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import ConfigError, MissingInputError, PrecisionError, VocabularyError
from kaldi_mpq.fit.run import fit_lm
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.fit.ste import SteObjective
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.perplexity import perplexity
from kaldi_mpq.lm.train import Trainer
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.pack.settings import PackSettings
from kaldi_mpq.pack.write import pack_lm
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import load_quantized
from kaldi_mpq.text.corpus import Corpus

QUICK = {"batch_tokens": 400, "warmup_steps": 10, "threads": 1, "device": "cpu", "epochs": 2, "learning_rate": 0.01}
ADMM = {"method": "admm", "admm_interval": 4, "gamma": 0.02}


def fit(float_lm, data, out, **options):
    """Fit with quick settings; return dev perplexity."""
    fit_lm(FitSettings(**{"lm": float_lm, "out": out, "data": data, **QUICK, **options}))
    return read_json(out / "ppl.json")["dev"]["perplexity"]


METHODS = [
    {"method": "round"},
    {"method": "ste"},
    {"method": "ste", "granularity": "block", "block": 5, "distill_weight": 0.5, "distill_temperature": 2.0},
    ADMM,
    {**ADMM, "granularity": "tensor", "admm_projection": "weights"},
    {**ADMM, "admm_update": "extragradient"},
]


@pytest.mark.parametrize("options", METHODS, ids=lambda options: "-".join(map(str, options.values())))
def test_fitted_weights_lie_on_the_grid_and_pack_exactly(float_lm, data, tmp_path, options):
    """Units have at most their width's levels per scale, ppl.json is the written model's, and pack keeps every bit."""
    out = tmp_path / "fit"
    reported = fit(float_lm, data, out, bits=2, **{**options, "epochs": 1})
    tensors = load_file(out / "model.safetensors")
    quantized = load_quantized(out / "quant.safetensors")
    model = load_lm(out)
    for unit in model.units():
        rows = tensors[unit.parameter][unit.start : unit.stop]
        assert torch.equal(rows, quantized[unit.name].values())
        if options.get("granularity", "row") == "row":
            assert max(len(row.abs().unique()) for row in rows) <= 2
    dev = Corpus.load(data / "dev.ids")
    assert perplexity(model, dev).value == pytest.approx(reported, rel=1e-6)
    pack_lm(PackSettings(out, tmp_path / "packed" / "model.mpq"))
    packed = open_lm(tmp_path / "packed" / "model.mpq").state_dict()
    assert all(torch.equal(packed[name], tensor) for name, tensor in tensors.items())
    assert {path.name for path in out.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "precision.json",
        "quant.safetensors",
        "words.txt",
    }
    assert not (out / "checkpoint.pt").exists()


def test_training_on_the_grid_beats_rounding(float_lm, data, tmp_path):
    """At 1 and 2 bits STE and ADMM end with a lower dev perplexity than rounding, and more bits are better for each."""
    found = {}
    for name, options in {"round": {"method": "round"}, "ste": {"method": "ste"}, "admm": ADMM}.items():
        for bits in (1, 2):
            found[name, bits] = fit(float_lm, data, tmp_path / f"{name}{bits}", bits=bits, **options)
        assert found[name, 2] < found[name, 1]
    for bits in (1, 2):
        assert found["ste", bits] < found["round", bits]
        assert found["admm", bits] < found["round", bits]


def test_rounding_to_eight_bits_costs_nothing_and_to_32_changes_nothing(float_lm, data, tmp_path):
    """8 bits: within 1% of the float perplexity; 32 bits: the same weights."""
    before = read_json(float_lm / "ppl.json")["dev"]["perplexity"]
    assert fit(float_lm, data, tmp_path / "8", bits=8, method="round") == pytest.approx(before, rel=0.01)
    assert fit(float_lm, data, tmp_path / "32", bits=32, method="round") == pytest.approx(before, rel=1e-6)
    theirs, ours = (load_file(place / "model.safetensors") for place in (float_lm, tmp_path / "32"))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_a_precision_file_gives_each_unit_its_width(float_lm, data, tmp_path):
    """Mixed widths from JSON, one gate left in 16 bits."""
    names = [unit.name for unit in load_lm(float_lm).units()]
    wanted = dict(zip(names, [8, 2, 1, 16, 4, *[2] * 20]))
    PrecisionMap(wanted).write(tmp_path / "precision.json")
    fit(float_lm, data, tmp_path / "fit", precision=tmp_path / "precision.json", epochs=1)
    quantized = load_quantized(tmp_path / "fit" / "quant.safetensors")
    assert {name: unit.bits for name, unit in quantized.items()} == {
        name: bits for name, bits in wanted.items() if bits < 16
    }
    assert PrecisionMap.read(tmp_path / "fit" / "precision.json").bits == wanted


@pytest.mark.parametrize("options", [{"method": "ste", "distill_weight": 0.5}, ADMM], ids=["ste", "admm"])
def test_a_killed_run_goes_on_to_the_same_weights(float_lm, data, tmp_path, options, monkeypatch):
    """Killed between two checkpoints, the same command ends where an undisturbed run ends, bit for bit."""
    options = {**options, "bits": 2, "checkpoint_minutes": 1e-9, "dropout": 0.1}
    fit(float_lm, data, tmp_path / "whole", **options)
    one_step = Trainer._one_step

    def killed(self, batch):
        if self.step == 9:
            raise KeyboardInterrupt
        return one_step(self, batch)

    monkeypatch.setattr(Trainer, "_one_step", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(float_lm, data, tmp_path / "broken", **options)
    monkeypatch.undo()
    assert (tmp_path / "broken" / "checkpoint.pt").exists()
    fit(float_lm, data, tmp_path / "broken", **options)
    whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in broken.items())


def test_a_finished_fit_is_not_done_again(float_lm, data, tmp_path):
    """The same command answers at once; other settings, or a changed precision file, are refused."""
    precision = PrecisionMap.uniform([unit.name for unit in load_lm(float_lm).units()], 2)
    precision.write(tmp_path / "precision.json")
    options = {
        "lm": float_lm,
        "out": tmp_path / "fit",
        "data": data,
        "method": "round",
        "precision": tmp_path / "precision.json",
    }
    fit_lm(FitSettings(**options))
    before = (tmp_path / "fit" / "model.safetensors").stat().st_mtime_ns
    assert "is finished" in fit_lm(FitSettings(**options))
    assert (tmp_path / "fit" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="other settings"):
        fit_lm(FitSettings(**{**options, "granularity": "tensor"}))
    PrecisionMap(dict.fromkeys(precision.bits, 4)).write(tmp_path / "precision.json")
    with pytest.raises(ConfigError, match="other settings"):
        fit_lm(FitSettings(**options))


def test_bad_settings_and_inputs_are_refused(float_lm, data, tmp_path):
    """No width or two, unknown units, missing files (all named), another vocabulary, a block without a size."""
    for wrong in (
        {},
        {"bits": 2, "precision": tmp_path / "p.json"},
        {"bits": 2, "gamma": 0},
        {"bits": 2, "distill_weight": 2},
    ):
        with pytest.raises(ConfigError):
            FitSettings(lm=float_lm, out=tmp_path, **wrong)
    with pytest.raises(ConfigError, match="block"):
        fit(float_lm, data, tmp_path / "a", bits=2, granularity="block")
    with pytest.raises(MissingInputError, match="missing 4 input"):
        fit(tmp_path / "no", tmp_path / "nowhere", tmp_path / "b", bits=2)
    (tmp_path / "p.json").write_text(json.dumps({"attention": 2}))
    with pytest.raises(PrecisionError, match="attention"):
        fit(float_lm, data, tmp_path / "c", precision=tmp_path / "p.json")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words.txt").write_text("<eps> 0\n")
    (tmp_path / "data" / "dev.ids").write_bytes((data / "dev.ids").read_bytes())
    with pytest.raises(VocabularyError):
        fit(float_lm, tmp_path / "data", tmp_path / "d", bits=2)


def test_wider_weights_move_more_slowly(float_lm):
    """Rates are in proportion to the gaps between levels; what has no grid gets the mean; or all rates are the same."""
    bits = {unit.name: (2, 4, 8)[i % 3] for i, unit in enumerate(load_lm(float_lm).units())}
    rates = {}
    for even in (True, False):
        model = load_lm(float_lm)
        units = model.units()
        objective = SteObjective(
            model, units, PrecisionMap(bits), Granularity("row", 0), scale_rate=3.0, even_rates=even
        )
        rates[even] = {name: parameter.rate_factor for name, parameter in objective.model.named_parameters()}
    gap = {2: 1.0, 4: 1 / 7, 8: 1 / 127}
    sizes = {unit: (unit.stop - unit.start) * unit.columns for unit in units}
    mean = sum(gap[bits[unit.name]] * size for unit, size in sizes.items()) / sum(sizes.values())
    for name, rate in rates[True].items():
        if name.endswith("original"):
            parameter = name.replace("parametrizations.", "").removesuffix(".original")
            mine = {unit: size for unit, size in sizes.items() if unit.parameter == parameter}
            wanted = sum(gap[bits[unit.name]] * size for unit, size in mine.items()) / sum(mine.values())
        elif name.endswith("log_scale"):
            assert min(abs(rate / 3.0 - each) for each in gap.values()) < 1e-9, name
            continue
        else:
            wanted = mean
        assert rate == pytest.approx(wanted), name
    assert set(rates[False].values()) == {1.0, 3.0}


@pytest.mark.parametrize("options", [{"method": "ste"}, ADMM], ids=lambda options: options["method"])
def test_a_fit_is_never_worse_than_its_start(float_lm, data, tmp_path, options):
    """With a learning rate that ruins the weights the result is the rounded model, as without any training."""
    rounded = fit(float_lm, data, tmp_path / "round", bits=4, method="round")
    ruined = fit(float_lm, data, tmp_path / "fit", bits=4, epochs=1, **{**options, "clip": 0.0, "learning_rate": 5.0})
    assert ruined == pytest.approx(rounded, rel=2e-3)


def test_parts_start_from_models_trained_at_their_width(float_lm, data, tmp_path):
    """Rounding only, each part is that of the uniform model of its width, the others rounded from the float weights."""
    uniform = {bits: tmp_path / f"uniform{bits}" for bits in (1, 2)}
    for bits, out in uniform.items():
        fit(float_lm, data, out, bits=bits, epochs=1)
    model = load_lm(float_lm)
    widths = {unit.name: (1, 2, 4)[i % 3] for i, unit in enumerate(model.units())}
    PrecisionMap(widths).write(tmp_path / "precision.json")
    places = tuple(f"{bits}={out}" for bits, out in uniform.items())
    options = {"precision": tmp_path / "precision.json", "prototypes": places}
    fit(float_lm, data, tmp_path / "joined", method="round", **options)
    fit(float_lm, data, tmp_path / "round", method="round", precision=tmp_path / "precision.json")
    joined = load_file(tmp_path / "joined" / "model.safetensors")
    for unit in model.units():
        theirs = uniform.get(widths[unit.name], tmp_path / "round")
        wanted = load_file(theirs / "model.safetensors")[unit.parameter][unit.start : unit.stop]
        torch.testing.assert_close(joined[unit.parameter][unit.start : unit.stop], wanted, atol=1e-6, rtol=1e-3)
    started = fit(float_lm, data, tmp_path / "fitted", epochs=1, distill_weight=0.5, **options)
    assert started < read_json(tmp_path / "round" / "ppl.json")["dev"]["perplexity"]


@pytest.mark.parametrize("place", ["exp/two", "3=exp/two", "=exp/two"])
def test_a_prototype_without_its_width_is_refused(float_lm, data, tmp_path, place):
    """What was given and what is wanted are named, not a file that nobody meant."""
    with pytest.raises(ConfigError, match="prototypes") as caught:
        fit(float_lm, data, tmp_path / "out", bits=2, method="round", prototypes=(place,))
    assert place in str(caught.value) and "BITS=DIR" in str(caught.value)


def test_a_prototype_of_other_widths_is_refused(float_lm, data, tmp_path):
    """It would be taken for what it is not."""
    fit(float_lm, data, tmp_path / "two", bits=2, method="round")
    with pytest.raises(ConfigError, match="other widths"):
        fit(float_lm, data, tmp_path / "out", bits=1, method="round", prototypes=(f"1={tmp_path / 'two'}",))


def test_what_is_good_enough_is_not_trained(float_lm, data, tmp_path):
    """--enough stops at the start where rounding costs no more than that, else where training has won it back."""
    before = read_json(float_lm / "ppl.json")["dev"]["perplexity"]
    steps = {}
    for bits, enough in ((8, 0.01), (8, 0.0), (1, 0.01)):
        out = tmp_path / f"{bits}_{enough}"
        fit(float_lm, data, out, method="ste", bits=bits, enough=enough, validate_every=0.5)
        lines = [json.loads(line) for line in (out / "train.log").read_text().splitlines()]
        steps[bits, enough] = [line["step"] for line in lines]
        if enough:
            assert all(line["dev_perplexity"] > 1.01 * before for line in lines[:-1])
    assert steps[8, 0.01] == [0]
    assert not (tmp_path / "8_0.01" / "checkpoint.pt").exists()
    assert len(steps[8, 0.0]) > 1 and len(steps[1, 0.01]) > 1


def test_the_learning_rate_is_the_float_lms(float_lm, data, tmp_path):
    """Unless one is given; an LM that was not trained here does not say one, and rounding needs none."""
    trained = read_json(float_lm / "config.json")["made_by"]["settings"]["learning_rate"]
    fit(float_lm, data, tmp_path / "own", bits=2, learning_rate=0.0, epochs=1)
    fit(float_lm, data, tmp_path / "given", bits=2, learning_rate=trained, epochs=1)
    own, given = (load_file(tmp_path / name / "model.safetensors") for name in ("own", "given"))
    assert all(torch.equal(own[name], given[name]) for name in given)
    imported = tmp_path / "imported"
    shutil.copytree(float_lm, imported)
    config = read_json(imported / "config.json")
    (imported / "config.json").write_text(json.dumps({**config, "made_by": {"verb": "lm import", "settings": {}}}))
    with pytest.raises(ConfigError, match=r"learning rate.*--learning-rate"):
        fit(imported, data, tmp_path / "bad", bits=2, learning_rate=0.0)
    fit(imported, data, tmp_path / "round", bits=2, learning_rate=0.0, method="round")
