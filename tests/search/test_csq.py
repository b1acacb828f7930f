# SPDX-License-Identifier: Apache-2.0
"""``mpq search --method csq`` on a language that is learned in seconds."""

import json

import pytest
import torch
from safetensors.torch import load_file

from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.fit.run import fit_lm
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.perplexity import perplexity
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.pack.settings import PackSettings
from kaldi_mpq.pack.write import pack_lm
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.bit_planes import width_shares
from kaldi_mpq.quant.grid import num_levels
from kaldi_mpq.quant.quantized import load_quantized
from kaldi_mpq.search.planes import constant_gates
from kaldi_mpq.search.run import search_bits
from kaldi_mpq.text.corpus import Corpus
from tests.search.tiny import bytes_at, interrupt_at, make_data, make_lm, settings_of, with_idle_part

CSQ = {"method": "csq", "epochs": 4, "csq_mask_rate": 0.1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A directory as ``mpq text`` writes it."""
    return make_data(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def float_lm(data, tmp_path_factory):
    """A trained float LSTM."""
    return make_lm(data, tmp_path_factory.mktemp("exp") / "float")


@pytest.fixture(scope="module")
def found(float_lm, data, tmp_path_factory):
    """Directories of searches under the bytes of 2 and of 4 bits."""
    place = tmp_path_factory.mktemp("found")
    return {bits: search(float_lm, data, place / str(bits), uniform_bits=bits) for bits in (2, 4)}


def search(float_lm, data, out, **options):
    """Search; return the directory."""
    search_bits(settings_of(float_lm, data, out, **{**CSQ, **options}))
    return out


@pytest.mark.parametrize("bits", [2, 4])
def test_what_it_writes_packs_as_it_is_within_the_budget(found, bits, tmp_path):
    """`mpq pack` takes the directory; the file has the same weights bit for bit and is not larger than the budget."""
    result = read_json(found[bits] / "search.json")
    pack_lm(PackSettings(found[bits], tmp_path / "model.mpq"))
    assert (tmp_path / "model.mpq").stat().st_size <= result["bytes"] <= result["budget"]
    packed = open_lm(tmp_path / "model.mpq").state_dict()
    for name, tensor in load_file(found[bits] / "model.safetensors").items():
        assert torch.equal(packed[name], tensor)


@pytest.mark.parametrize("bits", [2, 4])
def test_weights_lie_on_the_grid_of_their_width(found, bits):
    """A row of n bits has at most its levels, they are its codes times its scale, and precision.json says n."""
    tensors = load_file(found[bits] / "model.safetensors")
    quantized = load_quantized(found[bits] / "quant.safetensors")
    precision = PrecisionMap.read(found[bits] / "precision.json")
    for unit in load_lm(found[bits]).units():
        rows = tensors[unit.parameter][unit.start : unit.stop]
        assert torch.equal(rows, quantized[unit.name].values())
        assert quantized[unit.name].bits == precision[unit.name]
        assert max(len(row.unique()) for row in rows) <= num_levels(precision[unit.name])


def test_more_budget_is_not_fewer_bits(found):
    """The bytes of 4 bits give more nominal bits than those of 2."""
    small, large = (read_json(found[bits] / "search.json") for bits in (2, 4))
    assert large["nominal_mean_bits"] > small["nominal_mean_bits"]


def test_reported_perplexity_is_that_of_the_written_model(found, data):
    """ppl.json, and what the training reported of its hard bits at the end."""
    for place in found.values():
        measured = perplexity(load_lm(place), Corpus.load(data / "dev.ids")).value
        assert measured == pytest.approx(read_json(place / "ppl.json")["dev"]["perplexity"], rel=1e-6)
        assert measured == pytest.approx(read_json(place / "search.json")["dev_perplexity"], rel=5e-3)


def test_it_beats_rounding_at_its_own_widths(found, float_lm, data, tmp_path):
    """Values trained with the widths have a lower perplexity than float weights rounded to them."""
    out, precision = tmp_path / "rounded", found[2] / "precision.json"
    fit_lm(FitSettings(lm=float_lm, out=out, data=data, precision=precision, method="round"))
    ours, theirs = (read_json(place / "ppl.json")["dev"]["perplexity"] for place in (found[2], out))
    assert ours < theirs


def test_masks_and_bits_end_hard(found):
    """The log's shares are one-hot after the choice, before it sizes come nearer to the budget, and beta grows."""
    lines = [json.loads(line) for line in (found[2] / "architecture.jsonl").read_text().splitlines()]
    chosen = read_json(found[2] / "search.json")
    after = [line for line in lines if line["step"] >= chosen["choosing_step"]]
    before = [line for line in lines if line["step"] < chosen["choosing_step"]]
    for line in after[1:]:
        for name, row in line["shares"].items():
            assert row == [float(bits == chosen["bits"][name]) for bits in (1, 2, 4, 8)]
    assert before[-1]["expected_bytes"] < before[0]["expected_bytes"]
    betas = [line["beta"] for line in lines]
    assert betas == sorted(betas) and betas[-1] == pytest.approx(50.0)


def test_a_part_that_matters_more_gets_more_bits(float_lm, data, tmp_path):
    """The recurrent matrix says next to nothing: it gets the fewest bits."""
    lm = with_idle_part(float_lm, tmp_path / "idle")
    # Hardly any training of the weights, lest the idle part wake up.
    options = {"units": "matrix", "budget": bytes_at(lm, data, 4, "matrix"), "learning_rate": 1e-6}
    out = search(lm, data, tmp_path / "found", **options)
    bits = read_json(out / "precision.json")
    assert bits["layers.0.hh"] == min(bits.values()) < max(bits.values())


@pytest.mark.parametrize("step", [9, 30])
def test_an_interrupted_search_goes_on_to_the_same_weights(float_lm, data, tmp_path, monkeypatch, step):
    """Stopped before and after the widths are chosen: the same weights, bit for bit, and the same log."""
    options = {"uniform_bits": 2, "checkpoint_minutes": 1e-9, "dropout": 0.1, "epochs": 3}
    whole = search(float_lm, data, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, "csq", step)
        with pytest.raises(KeyboardInterrupt):
            search(float_lm, data, tmp_path / "broken", **options)
    broken = search(float_lm, data, tmp_path / "broken", **options)
    theirs, ours = (load_file(place / "model.safetensors") for place in (whole, broken))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert (whole / "architecture.jsonl").read_text() == (broken / "architecture.jsonl").read_text()
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_a_finished_search_is_not_done_again(found, float_lm, data):
    """The same command leaves the weights alone; another temperature is refused."""
    weights = found[2] / "model.safetensors"
    before = weights.stat().st_mtime_ns
    search(float_lm, data, found[2], uniform_bits=2)
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="other settings"):
        search(float_lm, data, found[2], uniform_bits=2, csq_final_beta=60)


def test_floors_fixed_and_float_widths_are_kept(float_lm, data, tmp_path):
    """A fixed width, a floor, and one gate left in 16 bits beside gates with planes."""
    options = {"floor": ("2",), "fixed": ("embedding=8", "layers.0.hh.forget=16"), "budget": 7000, "epochs": 1}
    out = search(float_lm, data, tmp_path / "fixed", **options)
    bits = read_json(out / "precision.json")
    assert bits["embedding"] == 8 and bits["layers.0.hh.forget"] == 16
    assert min(bits.values()) >= 2
    pack_lm(PackSettings(out, tmp_path / "packed" / "model.mpq"))
    assert (tmp_path / "packed" / "model.mpq").stat().st_size <= 7000


@pytest.mark.parametrize("bits", [(1,), (8,), (2, 4), (1, 4), (2, 8), (1, 2, 4, 8)], ids=str)
def test_gates_reach_just_the_allowed_widths(bits):
    """With free gates anywhere, only allowed widths have a share, and each can have all of it."""
    given = constant_gates(bits)
    reached = set()
    for number in range(8):
        free = torch.tensor([float(number >> k & 1) for k in range(3)])
        shares = width_shares(torch.where(given.isnan(), free, given))
        reached.add((1, 2, 4, 8)[int(shares.argmax())])
        assert float(shares.max()) == 1.0
    assert reached == set(bits)
