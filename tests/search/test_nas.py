# SPDX-License-Identifier: Apache-2.0
"""``mpq search --method nas`` on a language that is learned in seconds."""

import json

import pytest
import torch

from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import ConfigError, PrecisionError
from kaldi_mpq.fit.run import fit_lm
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.lm.batches import utterance_batches, utterance_plan
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.pack.settings import PackSettings
from kaldi_mpq.pack.write import pack_lm
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.search.nas import hold_out
from kaldi_mpq.search.problem import make_problem
from kaldi_mpq.search.run import search_bits
from kaldi_mpq.search.size_price import SizePrice, candidates
from kaldi_mpq.search.supernet import SupernetObjective
from kaldi_mpq.search.training import sizes_of, trainable_copy
from kaldi_mpq.text.corpus import Corpus
from tests.search.tiny import bytes_at, interrupt_at, make_data, make_lm, settings_of, with_idle_part

NAS = {"method": "nas", "epochs": 1, "nas_epochs": 20, "nas_rate": 0.1, "nas_held_out": 0.1}
SOFTMAX = {"method": "nas", "nas_mixture": "softmax", "epochs": 3, "nas_rate": 0.1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A directory as ``mpq text`` writes it."""
    return make_data(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def float_lm(data, tmp_path_factory):
    """A trained float LSTM."""
    return make_lm(data, tmp_path_factory.mktemp("exp") / "float")


def search(float_lm, data, out, **options):
    """Search; return ``search.json``."""
    search_bits(settings_of(float_lm, data, out, **options))
    return read_json(out / "search.json")


@pytest.mark.parametrize("options", [NAS, SOFTMAX, {**SOFTMAX, "nas_penalty": "sqrt-bits"}], ids=str)
def test_the_packed_file_is_never_larger_than_the_budget(float_lm, data, tmp_path, options):
    """Searched, rounded and packed at two budgets: within both, and the larger one gives more bits."""
    found = []
    for bits in (2, 4):
        out = tmp_path / str(bits)
        result = search(float_lm, data, out, uniform_bits=bits, **options)
        fit_lm(FitSettings(lm=float_lm, out=out / "fit", data=data, precision=out / "precision.json", method="round"))
        pack_lm(PackSettings(out / "fit", out / "packed" / "model.mpq"))
        size = (out / "packed" / "model.mpq").stat().st_size
        assert size <= result["bytes"] <= result["budget"]
        assert result["seconds"] > 0 and result["seed"] == 1
        found.append(result["nominal_mean_bits"])
    assert found[0] < found[1]


@pytest.mark.parametrize("options", [NAS, SOFTMAX], ids=["gumbel", "softmax"])
def test_a_part_that_matters_more_gets_more_bits(float_lm, data, tmp_path, options):
    """The recurrent matrix says next to nothing: it does not get the most bits."""
    lm = with_idle_part(float_lm, tmp_path / "idle")
    # Hardly any training, lest the idle part wake up.
    budget = bytes_at(lm, data, 2, "matrix")
    options = {**options, "nas_epochs": 60, "learning_rate": 1e-6, "units": "matrix", "budget": budget}
    bits = search(lm, data, tmp_path / "found", **options)["bits"]
    assert bits["layers.0.hh"] < max(bits.values())


@pytest.mark.parametrize(("stage", "step"), [("uniform", 7), ("gumbel", 17), ("softmax", 7)])
def test_an_interrupted_search_goes_on_to_the_same_result(float_lm, data, tmp_path, monkeypatch, stage, step):
    """Stopped in either stage: the same bits, shares and log in the end as without a stop."""
    options = {**(SOFTMAX if stage == "softmax" else NAS), "uniform_bits": 2, "checkpoint_minutes": 1e-9}
    options["dropout"] = 0.1
    whole = search(float_lm, data, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, stage, step)
        with pytest.raises(KeyboardInterrupt):
            search(float_lm, data, tmp_path / "broken", **options)
    broken = search(float_lm, data, tmp_path / "broken", **options)
    for key in ("bits", "shares", "price", "mixture_dev_perplexity"):
        assert whole[key] == broken[key]
    logs = [(tmp_path / name / "architecture.jsonl").read_text() for name in ("whole", "broken")]
    assert logs[0] == logs[1]
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_the_log_says_how_shares_and_size_went(float_lm, data, tmp_path):
    """Each line has shares that sum to 1 and the bytes that they stand for; sizes end nearer to the budget."""
    result = search(float_lm, data, tmp_path, uniform_bits=2, **NAS)
    lines = [json.loads(line) for line in (tmp_path / "architecture.jsonl").read_text().splitlines()]
    chosen = [line for line in lines if line["stage"] == "gumbel"]
    problem = make_problem(load_lm(float_lm), settings_of(float_lm, data, tmp_path, uniform_bits=2, **NAS))
    for line in chosen:
        total = 0.0
        for name, row in line["shares"].items():
            assert sum(row) == pytest.approx(1.0, abs=1e-3)
            total += sum(share * problem.bytes[name][bits] for share, bits in zip(row, result["widths"]))
        assert line["expected_bytes"] == pytest.approx(total, rel=1e-3)
    excess = [abs(line["expected_bytes"] - problem.capacity) for line in chosen]
    assert excess[-1] < 0.5 * excess[0]


def test_a_finished_search_is_not_done_again(float_lm, data, tmp_path, monkeypatch):
    """The same command answers at once with the same widths; other settings are refused."""
    first = search(float_lm, data, tmp_path, uniform_bits=2, **NAS)
    with monkeypatch.context() as patch:
        interrupt_at(patch, "uniform", 0)
        assert search(float_lm, data, tmp_path, uniform_bits=2, **NAS)["bits"] == first["bits"]
    with pytest.raises(ConfigError, match="other settings"):
        search(float_lm, data, tmp_path, uniform_bits=2, **{**NAS, "nas_epochs": 2})


def test_floors_fixed_and_float_widths_are_kept(float_lm, data, tmp_path):
    """A floor, a fixed width and a part left in 16 bits are in the result whatever the shares say."""
    options = {"floor": ("2",), "fixed": ("embedding=8", "layers.0.hh.forget=16"), "budget": 7000}
    bits = search(float_lm, data, tmp_path, **{**NAS, **options})["bits"]
    assert bits["embedding"] == 8 and bits["layers.0.hh.forget"] == 16
    assert min(bits.values()) >= 2
    assert PrecisionMap.read(tmp_path / "precision.json").bits == bits


def test_an_impossible_budget_says_what_is_possible(float_lm, data, tmp_path):
    """Before anything is trained."""
    with pytest.raises(PrecisionError, match="too small"):
        search(float_lm, data, tmp_path, budget=100, **NAS)


def make_objective(float_lm, data, tmp_path, penalty="bytes", price=0.3):
    """A supernet in float64, and a batch."""
    model = load_lm(float_lm)
    problem = make_problem(model, settings_of(float_lm, data, tmp_path, uniform_bits=2, units="sublayer", **NAS))
    items = sizes_of(problem)
    prices = SizePrice(items, candidates(items), problem.capacity, penalty=penalty, price=price, rate=0.1)
    copy = trainable_copy(model, 0.0)
    objective = SupernetObjective(copy, problem.groups, candidates(items), Granularity(), prices).double()
    corpus = Corpus.load(data / "dev.ids")
    batch = next(utterance_batches(corpus, utterance_plan(corpus, 200, None), model.config.bos, model.config.eos))
    return objective, batch


@pytest.mark.parametrize("penalty", ["bytes", "sqrt-bits"])
def test_the_gradient_of_architecture_weights_is_that_of_finite_differences(float_lm, data, tmp_path, penalty):
    """Of the whole loss: cross entropy through both matrices of a gate, and the penalty."""
    objective, batch = make_objective(float_lm, data, tmp_path, penalty)
    with torch.no_grad():
        objective.logits.copy_(torch.randn(objective.logits.shape, generator=torch.Generator().manual_seed(3)))
    objective(batch, None)[0].backward()
    slope = objective.logits.grad.clone()
    for place in [(0, 0), (1, 2), (3, 1), (4, 3)]:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                objective.logits[place] += sign * 1e-5
                values.append(float(objective(batch, None)[0]))
                objective.logits[place] -= sign * 1e-5
        assert float(slope[place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-8)


def test_sampled_paths_are_one_hot_and_equally_likely(float_lm, data, tmp_path):
    """Every draw gives every group one allowed width; 400 draws give each about a quarter."""
    objective, _ = make_objective(float_lm, data, tmp_path)
    objective.begin("uniform")
    draws = torch.stack([objective._drawn() for _ in range(400)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(draws.sum(dim=2), torch.ones_like(draws.sum(dim=2)))
    assert float((draws.mean(dim=(0, 1)) - 0.25).abs().max()) < 0.05


def test_colder_samples_are_closer_to_one_hot(float_lm, data, tmp_path):
    """The temperature falls from its first to its last value, and draws get decided."""
    objective, _ = make_objective(float_lm, data, tmp_path)
    objective.temperatures, objective.total_steps = (4.0, 0.1), 11
    objective.begin("gumbel")
    largest = []
    for step in (0, 5, 10):
        objective.steps.fill_(step)
        torch.manual_seed(0)
        largest.append(float(torch.stack([objective._drawn().detach() for _ in range(50)]).amax(dim=2).mean()))
    assert objective.temperature == pytest.approx(0.1)
    assert largest == sorted(largest) and largest[-1] > 0.9


def test_weights_stand_still_while_widths_are_chosen(float_lm, data, tmp_path):
    """The second stage has gradients for the architecture weights alone, the first for all but them."""
    objective, batch = make_objective(float_lm, data, tmp_path)
    for stage, chosen in (("uniform", False), ("gumbel", True)):
        objective.zero_grad(set_to_none=True)
        objective.begin(stage)
        objective(batch, None)[0].backward()
        assert (objective.logits.grad is not None) == chosen
        assert any(each.grad is not None for each in objective.model.parameters()) != chosen


def test_held_out_text_is_cut_between_conversations(data):
    """No utterance is lost or in both parts; a conversation is in one of them; one utterance cannot be split."""
    corpus = Corpus.load(data / "train.ids")
    kept, held = hold_out(corpus, 0.1)
    assert len(kept) + len(held) == len(corpus)
    assert 0.05 < len(held) / len(corpus) < 0.15
    assert not set(kept.conversation.tolist()) & set(held.conversation.tolist())
    assert kept.words.tolist() + held.words.tolist() == corpus.words.tolist()
    assert held.offsets[0] == 0
    single = Corpus(corpus.words[: corpus.offsets[1]], corpus.offsets[:2], corpus.conversation[:1])
    with pytest.raises(ConfigError, match="too little text"):
        hold_out(single, 0.1)
