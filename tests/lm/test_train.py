# SPDX-License-Identifier: Apache-2.0
"""The training loop: it learns, stops, resumes exactly, and refuses what it cannot go on with."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kaldi_mpq.artefact import read_json, write_json
from kaldi_mpq.errors import ConfigError, MissingInputError, MpqError, NumericalError
from kaldi_mpq.lm import train as loop
from kaldi_mpq.lm.batches import as_read
from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.perplexity import Perplexity, perplexity
from kaldi_mpq.lm.train import Trainer, train_lm
from kaldi_mpq.text.corpus import Corpus

UNK, BOS, EOS = 20, 21, 22


class KilledError(Exception):
    """Stands for a signal."""


def killed_at(step: int) -> type[Objective]:
    """Return an objective that is killed in the middle of a step."""

    class Mortal(Objective):
        def after_step(self, done: int) -> None:
            if done == step:
                raise KilledError

    return Mortal


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a trained model's directory."""
    return load_file(out / "model.safetensors")


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Assert that two sets of tensors are bit-identical."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def validations(out: Path) -> list[dict]:
    """Return the entries of a training log."""
    return [json.loads(line) for line in (out / "train.log").read_text().splitlines()]


def unigram_entropy(corpus: Corpus) -> float:
    """Return the entropy of words and sentence ends in nats."""
    counts = np.bincount(np.r_[corpus.words, np.full(len(corpus), EOS)])
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "lstm", "learning_rate": 0.06},
        {"model": "lstm", "learning_rate": 0.06, "context": "conversation"},
        {"model": "transformer", "label_smoothing": 0.05},
        {"model": "transformer", "norm": "post", "context": "conversation"},
        {"model": "lstm", "optimizer": "sgd", "learning_rate": 1.0, "schedule": "halving"},
    ],
    ids=lambda changed: "-".join(map(str, changed.values())),
)
def test_training_learns(settings, toy, changed):
    """On a toy language the perplexity falls well below what word frequencies alone give."""
    chosen = settings(**{"epochs": 6, "dropout": 0.0, **changed})
    summary = train_lm(chosen)
    reached = read_json(chosen.out / "ppl.json")["dev"]
    assert math.log(reached["perplexity"]) < 0.85 * unigram_entropy(Corpus.load(toy / "dev.ids"))
    again = perplexity(load_lm(chosen.out), Corpus.load(toy / "dev.ids"), context=chosen.context)
    assert again.to_dict() == pytest.approx(reached)
    assert f"dev perplexity {reached['perplexity']:.2f}" in summary


def test_the_directory_is_complete(settings, toy):
    """Model, configuration, words, perplexities and log are there, stamped; the checkpoint is gone."""
    chosen = settings(epochs=2, validate_every=0.5)
    train_lm(chosen)
    names = ["config.json", "model.safetensors", "ppl.json", "train.log", "words.txt"]
    assert sorted(path.name for path in chosen.out.iterdir()) == names
    assert (chosen.out / "words.txt").read_bytes() == (toy / "words.txt").read_bytes()
    config = read_json(chosen.out / "config.json")
    assert config["made_by"]["settings"]["epochs"] == 2
    assert len(config["made_by"]["inputs"]) == 3
    log = validations(chosen.out)
    assert len(log) >= 4
    assert log[-1]["epoch"] == 2.0
    assert min(entry["dev_perplexity"] for entry in log) == read_json(chosen.out / "ppl.json")["dev"]["perplexity"]
    assert all(0 < entry["train_loss_nats"] < 4 for entry in log)


@pytest.mark.parametrize("model", ["lstm", "transformer"])
@pytest.mark.parametrize("context", ["utterance", "conversation"])
def test_a_killed_training_goes_on_exactly(settings, tmp_path, monkeypatch, model, context):
    """KilledError in mid-epoch, twice, the same command ends with the same weights and log as an undisturbed run."""
    changed = {"model": model, "context": context, "checkpoint_minutes": 0.0, "optimizer": "adam", "epochs": 2}
    whole, broken = settings(**changed, out=tmp_path / "whole"), settings(**changed, out=tmp_path / "broken")
    train_lm(whole)
    last = validations(whole.out)[-1]["step"]
    assert last > 8
    for step in (4, last - 2):
        monkeypatch.setattr(loop, "Objective", killed_at(step))
        with pytest.raises(KilledError):
            train_lm(broken)
        assert not (broken.out / "model.safetensors").exists()
    monkeypatch.undo()
    train_lm(broken)
    assert_same(weights(whole.out), weights(broken.out))
    for ours, theirs in zip(validations(whole.out), validations(broken.out), strict=True):
        assert {**ours, "tokens_per_second": 0} == {**theirs, "tokens_per_second": 0}


def test_a_training_killed_before_its_end_is_written_goes_on(settings, tmp_path, monkeypatch):
    """KilledError after the last step but before the model is written, nothing is trained again and nothing is lost."""
    whole, broken = settings(out=tmp_path / "whole"), settings(out=tmp_path / "broken")
    train_lm(whole)

    def killed(*_):
        raise KilledError

    monkeypatch.setattr(loop, "finish", killed)
    with pytest.raises(KilledError):
        train_lm(broken)
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "_one_step", killed)
    train_lm(broken)
    assert_same(weights(whole.out), weights(broken.out))


def test_the_seed_decides(settings, tmp_path):
    """The same settings give the same weights, another seed gives others."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_lm(settings(out=tmp_path / name, seed=seed, epochs=1))
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not torch.equal(weights(tmp_path / "a")["output.bias"], weights(tmp_path / "c")["output.bias"])


def test_a_finished_training_returns_at_once(settings, monkeypatch):
    """The same command again tells the result and trains nothing; other settings are refused."""
    chosen = settings(epochs=1)
    first = train_lm(chosen)
    monkeypatch.setattr(Trainer, "run", None)
    assert train_lm(chosen) == f"{chosen.out} is finished: {first}"
    with pytest.raises(ConfigError, match=r"made with other settings.*'layers': 1.*'layers': 2"):
        train_lm(settings(epochs=1, layers=2))


def test_training_backwards_is_training_on_reversed_sentences(settings, toy, tmp_path):
    """--backward gives the very weights that sentences written from their end give, and the model says what it is."""
    backward = settings(backward=True, epochs=1, context="conversation", out=tmp_path / "backward")
    train_lm(backward)
    turned = shutil.copytree(toy, tmp_path / "turned")
    for name in ("train.ids", "dev.ids"):
        as_read(Corpus.load(toy / name), True).save(turned / name)
    plain = settings(epochs=1, context="conversation", out=tmp_path / "plain", data=turned)
    train_lm(plain)
    assert_same(weights(backward.out), weights(plain.out))
    assert read_json(backward.out / "ppl.json") == read_json(plain.out / "ppl.json")
    assert load_lm(backward.out).config.backward
    assert not load_lm(plain.out).config.backward


def test_a_directory_from_before_there_were_backward_models_is_finished(settings):
    """Its settings do not say backward, and mean false; a backward one is another."""
    chosen = settings(epochs=1)
    train_lm(chosen)
    config = read_json(chosen.out / "config.json")
    del config["made_by"]["settings"]["backward"], config["backward"]
    write_json(chosen.out / "config.json", config)
    assert "is finished" in train_lm(chosen)
    assert not load_lm(chosen.out).config.backward
    with pytest.raises(ConfigError, match=r"other settings.*backward"):
        train_lm(settings(epochs=1, backward=True))


def test_another_text_is_not_taken_for_the_finished_one(settings, tmp_path):
    """A model trained on other text under the same name is refused, not passed off as done."""
    data = shutil.copytree(settings().data, tmp_path / "data")
    train_lm(settings(epochs=1, data=data))
    old = Corpus.load(data / "train.ids")
    Corpus(old.words[::-1].copy(), old.offsets, old.conversation).save(data / "train.ids")
    with pytest.raises(ConfigError, match=r"made with other settings.*input_sha256"):
        train_lm(settings(epochs=1, data=data))


def test_a_checkpoint_of_other_settings_is_refused(settings, monkeypatch):
    """Going on with other settings is an error that shows what differs; how often is saved makes no difference."""
    monkeypatch.setattr(loop, "Objective", killed_at(3))
    with pytest.raises(KilledError):
        train_lm(settings(checkpoint_minutes=0.0))
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"checkpoint\.pt.*other settings.*'dropout': 0\.1.*'dropout': 0\.3"):
        train_lm(settings(checkpoint_minutes=0.0, dropout=0.3))
    train_lm(settings(checkpoint_minutes=5.0))


def test_a_damaged_checkpoint_is_refused(settings):
    """Half a checkpoint is an error that says what to do, not a new start."""
    chosen = settings()
    chosen.out.mkdir()
    (chosen.out / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(MpqError, match=r"damaged checkpoint.*remove it"):
        train_lm(chosen)


def test_missing_data_is_named(settings, tmp_path):
    """A data directory that is not there is an error, before anything is written."""
    with pytest.raises(MissingInputError, match="nowhere"):
        train_lm(settings(data=tmp_path / "nowhere"))
    assert not (tmp_path / "lm").exists()


class Scripted(Objective):
    """An objective whose validation perplexities are given."""

    script: list[float]

    def validate(self, corpus, batch_tokens, context) -> Perplexity:
        """Return the next perplexity of the script."""
        return Perplexity(math.log(self.script.pop(0)), 1)


@pytest.fixture
def scripted(settings, toy):
    """Return a function (perplexities, settings) -> entries of the log and the best perplexity."""

    def run(script: list[float], **changed) -> tuple[list[dict], float]:
        chosen = settings(**{"epochs": 9, "warmup_steps": 0, **changed})
        torch.manual_seed(1)
        config = ModelConfig("lstm", 23, BOS, EOS, UNK, embedding_dim=4, hidden_dim=4, layers=1)
        objective = Scripted(build(config))
        objective.script = [*script]
        corpora = (Corpus.load(toy / f"{name}.ids") for name in ("train", "dev"))
        best = Trainer(objective, chosen, *corpora, chosen.out).run({})
        return validations(chosen.out), best

    return run


def test_training_stops_without_gain(scripted):
    """After as many validations without gain as the patience allows, the best is kept; a gain starts the count anew."""
    log, best = scripted([10, 9, 9.5, 8, 8, 8.5, 7], schedule="constant", patience=2)
    assert [entry["dev_perplexity"] for entry in log] == pytest.approx([10, 9, 9.5, 8, 8, 8.5])
    assert best == pytest.approx(8)


def test_no_gain_halves_the_rate(scripted):
    """Each validation without gain halves the rate, and training stops after so many halvings."""
    log, _ = scripted([10, 11, 9, 9.5, 9.2, 8], schedule="halving", halvings=3, learning_rate=0.4, patience=1)
    assert [entry["learning_rate"] for entry in log] == pytest.approx([0.4, 0.4, 0.2, 0.2, 0.1])


def test_cosine_ends_low(scripted):
    """The logged rates fall along the cosine to the last rate."""
    log, _ = scripted([9, 8, 7, 6], schedule="cosine", learning_rate=0.4, final_rate=0.1, epochs=4)
    rates = [entry["learning_rate"] for entry in log]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.04, rel=0.05)


def test_the_best_weights_are_kept(settings, toy):
    """What is written are the weights of the best validation, not the last ones."""
    chosen = settings(epochs=3, schedule="constant", learning_rate=0.02)
    seen = {}

    class Spy(Objective):
        def validate(self, corpus, batch_tokens, context) -> Perplexity:
            value = [3.0, 2.0, 4.0][len(seen)]
            seen[value] = {name: tensor.clone() for name, tensor in self.state_dict().items()}
            return Perplexity(math.log(value), 1)

    torch.manual_seed(1)
    objective = Spy(build(ModelConfig("lstm", 23, BOS, EOS, UNK, embedding_dim=4, hidden_dim=4, layers=1)))
    corpora = (Corpus.load(toy / f"{name}.ids") for name in ("train", "dev"))
    Trainer(objective, chosen, *corpora, chosen.out).run({})
    assert_same(objective.state_dict(), seen[2.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training(settings, monkeypatch, bad):
    """The error names value and step, and the weights of before are in the checkpoint."""

    class Diverging(Objective):
        def forward(self, batch, state):
            loss, state = super().forward(batch, state)
            self.steps = getattr(self, "steps", 0) + 1
            return (loss * bad if self.steps == 5 else loss), state

    monkeypatch.setattr(loop, "Objective", Diverging)
    with pytest.raises(NumericalError, match=rf"loss is {bad} at step 4"):
        train_lm(settings())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_validation_that_is_not_finite_stops_training(scripted, bad):
    """A perplexity that is no number neither counts as a gain nor ends in a model of nothing."""
    with pytest.raises(NumericalError, match="dev perplexity is"):
        scripted([bad])


def test_an_unknown_device_is_refused(settings):
    """A device that there is not is an error of the command line, not of torch."""
    with pytest.raises(ConfigError, match="bad value for device"):
        train_lm(settings(device="gpu"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            train_lm(settings(device="cuda"))
