# SPDX-License-Identifier: Apache-2.0
"""What a fusion is, as values, as a file and as options; and its arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kaldi_mpq.errors import ConfigError, MissingInputError
from kaldi_mpq.rescore.combine import combine, cost_changes
from kaldi_mpq.rescore.fusion import Fusion, Term
from kaldi_mpq.rescore.settings import NbestSettings
from kaldi_mpq.rescore.tree_scores import SentenceCosts

OLD = SentenceCosts(np.array([4.0, 2.0, 1.0]), np.array([1.0, 3.0]))
NEW = SentenceCosts(np.array([2.0, 2.0, 5.0]), np.array([3.0, 0.0]))
SOURCE = SentenceCosts(np.array([1.0, 0.0, 2.0]), np.array([0.5, 1.0]))


def settings(**given) -> NbestSettings:
    """Return the settings of a command."""
    return NbestSettings(in_dir=Path("in"), out_dir=Path("out"), old_lang=Path("lang"), **given)


def test_one_model_in_the_place_of_the_old_one():
    """The default is g - w OLD + w NEW, which Kaldi's scripts write as (g - OLD) + w NEW + (1 - w) OLD."""
    word, final = cost_changes(settings(lm=Path("a"), weight=0.25).make_fusion(), OLD, [NEW])
    np.testing.assert_allclose(word, -OLD.word + 0.25 * NEW.word + 0.75 * OLD.word)
    np.testing.assert_allclose(final, -OLD.final + 0.25 * NEW.final + 0.75 * OLD.final)


def test_density_ratio_has_the_published_signs():
    """As scores: minus mu source, plus lambda target, plus rho for each word; the old LM goes as asked."""
    given = {"lm": Path("t"), "weight": 0.7, "source_lm": Path("s"), "mu": 0.4, "rho": 0.2, "old_weight": 0.0}
    word, final = cost_changes(settings(**given).make_fusion(), OLD, [NEW, SOURCE])
    np.testing.assert_allclose(-word, -0.4 * -SOURCE.word + 0.7 * -NEW.word + 0.2)
    np.testing.assert_allclose(-final, -0.4 * -SOURCE.final + 0.7 * -NEW.final)


def test_a_term_of_weight_0_does_not_count_however_bad_it_is():
    """Infinite costs times 0 are nothing."""
    never = SentenceCosts(np.full(3, np.inf), np.full(2, np.inf))
    fusion = Fusion(0.0, (Term(Path("a"), 1.0), Term(Path("b"), 0.0)))
    word, final = cost_changes(fusion, never, [NEW, never])
    np.testing.assert_array_equal(word, NEW.word)
    np.testing.assert_array_equal(final, NEW.final)


def test_no_weight_changes_nothing():
    """All weights 0 give back every cost, bit for bit."""
    fusion = Fusion(0.0, (Term(Path("a"), 0.0),))
    assert fusion.changes_nothing
    assert not Fusion(0.0, (Term(Path("a"), 0.0),), 0.1).changes_nothing
    arcs, ends = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.7, 0.9])
    result = combine(arcs, ends, np.array([True, False, True, True]), cost_changes(fusion, OLD, [NEW]))
    np.testing.assert_array_equal(result[0], arcs)
    np.testing.assert_array_equal(result[1], ends)


@pytest.mark.parametrize("backward", [None, True, False])
def test_a_fusion_survives_its_file(tmp_path, backward):
    """What is written is read back, directions and names in any script included."""
    fusion = Fusion(0.9, (Term(Path("exp/lm"), 0.5), Term(Path("exp/größe"), -0.25, backward)), -0.1)
    fusion.write(tmp_path / "fusion.yaml")
    assert Fusion.read(tmp_path / "fusion.yaml") == fusion
    assert settings(fusion=tmp_path / "fusion.yaml").make_fusion() == fusion


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("old_weight: 0.5\n", "no list of terms"),
        ("old_weight: 0.5\nterms: []\n", "without language models"),
        ("old_weight: 0.5\nterms: [exp/lm]\n", "no list of terms"),
        ("terms: [{lm: a, weight: 1}]\n", "missing setting.*old_weight"),
        ("old_weight: -1\nterms: [{lm: a, weight: 1}]\n", "old_weight"),
        ("old_weight: 1\nterms: [{lm: a}]\n", "missing setting.*weight"),
        ("old_weight: 1\nterms: [{lm: a, weight: heavy}]\n", "weight"),
        ("old_weight: 1\nterms: [{lm: a, weight: .nan}]\n", "weight of a"),
        ("old_weight: 1\nterms: [{lm: a, wieght: 1}]\n", "did you mean 'weight'"),
        ("old_weight: 1\nbonus: 1\nterms: [{lm: a, weight: 1}]\n", "word_bonus"),
        ("old_weight: 1\nterms: [{lm: a, weight: 1}, {lm: a, weight: 2}]\n", "there twice"),
        ("old_weight: 1\nterms: [{lm: a, weight: 1, backward: 3}]\n", "backward"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    """Each way of getting the file wrong is an error that says which."""
    path = tmp_path / "fusion.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Fusion.read(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fusion": Path("f"), "lm": Path("a")}, "--fusion and --lm exclude"),
        ({"fusion": Path("f"), "weight": 0.25, "rho": 0.5}, "--fusion and --weight, --rho exclude"),
        ({"lm": Path("a"), "mu": 0.5}, "--mu is the weight of --source-lm"),
        ({"source_lm": Path("a"), "test": True}, "--source-lm without --lm"),
        ({"lm": Path("a"), "source_lm": Path("a")}, "are the same"),
        ({"lm": Path("a"), "source_lm": Path("b"), "mu": -0.5}, "bad value for mu"),
        ({"lm": Path("a"), "weight": 1.5}, "bad value for weight"),
        ({"lm": Path("a"), "old_weight": -1.0}, "bad value for old_weight"),
        ({"lm": Path("a"), "rho": float("nan")}, "bad value for rho"),
        ({}, "missing setting.*lm"),
        ({"lm": Path("a"), "test": True, "keep_scores": True}, "no scores to keep"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, message):
    """Options that exclude each other, and weights out of range."""
    with pytest.raises(ConfigError, match=message):
        settings(**given)


def test_a_missing_file_is_named():
    """No such fusion file."""
    with pytest.raises(MissingInputError, match="nowhere"):
        settings(fusion=Path("nowhere.yaml")).make_fusion()
