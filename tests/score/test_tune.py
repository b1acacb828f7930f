# SPDX-License-Identifier: Apache-2.0
"""``mpq score tune``: what it reads, what it finds, what it writes, and what it refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import ConfigError, LatticeError, MissingInputError, ScoringError
from kaldi_mpq.native.kept_scores import KeptScores
from kaldi_mpq.score.settings import TuneSettings
from kaldi_mpq.score.tune import tune_weights
from kaldi_mpq.settings import read_yaml

WORDS = ["<eps>", "a", "b", "c", "uh"]
FUSION = {
    "old_weight": 0.5,
    "word_bonus": 0.0,
    "terms": [{"lm": "exp/lm", "weight": 0.5}, {"lm": "exp/back", "weight": 0.1, "backward": True}],
}


def utterances(first: int, count: int) -> KeptScores:
    """Return utterances whose right hypothesis, ``a b``, is the cheapest under the first new model only."""
    generator = np.random.default_rng(first)
    texts = [[1, 2], [1, 3], [3], [1, 2, 4]] * count  # 4 is ignored
    paths = len(texts)
    new = generator.uniform(0, 1, paths)
    new[::4] -= 1.5
    misleading = generator.uniform(0, 1, (3, paths))
    misleading[:, 2::4] -= 0.75
    return KeptScores(
        keys=np.array([f"utt{first + i}" for i in range(count)], str),
        unchanged=np.zeros(count, bool),
        lattice_offsets=np.arange(0, paths + 1, 4),
        word_offsets=np.cumsum([0, *map(len, texts)]),
        words=np.array([word for text in texts for word in text], np.int32),
        graph=misleading[0],
        acoustic=10 * misleading[1],
        old=misleading[0],
        terms=np.array([new, misleading[2]]),
        info={"fusion": FUSION, "inv_acwt": 10.0, "made_by": {}},
    )


@pytest.fixture
def place(tmp_path) -> Path:
    """A data directory of 30 utterances, and their scores in two jobs."""
    data, decode = tmp_path / "dev", tmp_path / "decode"
    data.mkdir(), decode.mkdir()
    names = [f"utt{i}" for i in range(30)]
    (data / "text").write_text("".join(f"{name} A b\n" for name in names))
    (data / "utt2spk").write_text("".join(f"{name} spk\n" for name in names))
    (tmp_path / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in enumerate(WORDS)))
    (decode / "num_jobs").write_text("2\n")
    utterances(0, 18).save(decode / "scores.1.npz")
    utterances(18, 12).save(decode / "scores.2.npz")
    return tmp_path


def settings(place: Path, **changes) -> TuneSettings:
    """Return settings for that place."""
    dev = f"{place / 'dev'}={place / 'decode'}"
    return TuneSettings(place / "out", place / "words.txt", dev, ignore_words=("uh",), **changes)


def test_the_model_that_knows_is_trusted(place):
    """All errors can be avoided with weights that are looked for; everything is written and agrees with itself."""
    line = tune_weights(settings(place))
    report, fusion = read_json(place / "out" / "tune.json"), read_yaml(place / "out" / "fusion.yaml")
    assert report["best"]["dev"]["errors"] == 0 < report["before"]["dev"]["errors"]
    assert report["best"]["dev"]["ref_words"] == 60
    assert line.startswith("%WER 0.00 [ 0 / 60,")
    assert report["best"]["fusion"] == fusion
    assert fusion["terms"][0]["weight"] > 0.5
    assert [{k: v for k, v in term.items() if k != "weight"} for term in fusion["terms"]] == [
        {"lm": "exp/lm"},
        {"lm": "exp/back", "backward": True},
    ]
    assert report["before"]["fusion"] == FUSION
    assert min(report["curves"]["old weight"]["errors"]) == 0
    assert sum("scores" in name for name in report["made_by"]["inputs"]) == 2
    assert (place / "out" / "tune.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_looked_for_stays(place):
    """--search names the weights that may change; a tied old weight is the sum of the new ones."""
    tune_weights(settings(place, search=("weights",), plot=False))
    fusion = read_yaml(place / "out" / "fusion.yaml")
    assert (fusion["old_weight"], fusion["word_bonus"]) == (0.5, 0.0)
    assert read_json(place / "out" / "tune.json")["best"]["lmwt"] == 10
    assert not (place / "out" / "tune.png").exists()
    tune_weights(settings(place, tie_old=True, plot=False))
    fusion = read_yaml(place / "out" / "fusion.yaml")
    assert fusion["old_weight"] == pytest.approx(sum(term["weight"] for term in fusion["terms"]))
    assert all(term["weight"] >= 0 for term in fusion["terms"])


def test_an_utterance_without_hypotheses_is_deleted(place):
    """Not in the scores, or there without a path: its words count, wherever the weights are."""
    kept = utterances(18, 12)
    kept = dataclasses.replace(kept.select(np.arange(10)), info=kept.info)
    none = dataclasses.replace(KeptScores.empty(2), keys=np.array(["utt28"]), unchanged=np.array([True]),
                               lattice_offsets=np.array([0, 0]))  # fmt: skip
    KeptScores.concat([kept, none]).save(place / "decode" / "scores.2.npz")
    tune_weights(settings(place))
    best = read_json(place / "out" / "tune.json")["best"]["dev"]
    assert (best["deletions"], best["errors"], best["ref_words"]) == (4, 4, 60)


def test_language_model_weights_do_not_matter_where_nothing_was_rescored(place):
    """What went through unchanged is chosen by its own costs, and gets no bonus."""
    for job, (first, count) in enumerate([(0, 18), (18, 12)], start=1):
        kept = utterances(first, count)
        kept = dataclasses.replace(kept, unchanged=np.ones(count, bool), old=0 * kept.old, terms=0 * kept.terms)
        kept.save(place / "decode" / f"scores.{job}.npz")
    tune_weights(settings(place, plot=False))
    curves = read_json(place / "out" / "tune.json")["curves"]
    assert all(len(set(curve["errors"])) == 1 for name, curve in curves.items() if name != "LMWT")


def test_bad_input_is_refused(place):
    """Missing scores, jobs of other models, strangers, repeated utterances, words beyond words.txt: each by name."""
    second = place / "decode" / "scores.2.npz"
    good = utterances(18, 12)
    cases = [
        (dataclasses.replace(good, info={**good.info, "inv_acwt": 12.0}), ScoringError, r"scores\.2.*other language"),
        (utterances(0, 12), LatticeError, "utt0 is there twice"),
        (utterances(20, 12), ScoringError, r"2 utterance\(s\) without a reference.*utt30"),
        (dataclasses.replace(good, words=good.words + 5), LatticeError, "beyond words.txt"),
    ]
    for kept, error, message in cases:
        kept.save(second)
        with pytest.raises(error, match=message):
            tune_weights(settings(place))
    second.unlink()
    with pytest.raises(MissingInputError, match=r"scores\.2\.npz.*--keep-scores"):
        tune_weights(settings(place))
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"search": ("weight",)},
        {"search": ()},
        {"search": ("weights",), "tie_old": True},
        {"min_lmwt": 9, "max_lmwt": 8},
        {"min_weight": 1.0, "max_weight": 0.5},
        {"starts": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes):
    """Unknown names, empty ranges."""
    with pytest.raises(ConfigError):
        TuneSettings(Path("out"), Path("words"), "a=b", **changes)


def test_tuning_imports_neither_torch_nor_k2():
    """Scoring runs where there are no tensors."""
    program = "import sys, kaldi_mpq.score.tune; print([name for name in ('torch', 'k2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
