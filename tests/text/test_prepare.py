# SPDX-License-Identifier: Apache-2.0
"""``mpq text``: the directory that it writes."""

from __future__ import annotations

import json

import pytest

from kaldi_mpq.errors import ConfigError, MissingInputError
from kaldi_mpq.text.corpus import Corpus
from kaldi_mpq.text.prepare import prepare_text
from kaldi_mpq.text.settings import TextSettings
from kaldi_mpq.text.vocab import Vocabulary


@pytest.fixture
def settings(tmp_path, words_txt):
    """Return a function that makes settings with every input there."""
    for name, content in {"train": "u-1 yeah\n", "dev": "u-1 okay zebra\n", "eval": "u-1 naïve\n"}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")

    def make(**changed) -> TextSettings:
        inputs = {"words": words_txt, "train": tmp_path / "train", "dev": tmp_path / "dev"}
        return TextSettings(out=tmp_path / "lm", **{**inputs, **changed})

    return make


def test_the_directory_holds_what_training_needs(settings, tmp_path, vocabulary):
    """Every text becomes ids, words.txt is canonical, and stats.json has counts and the vocabulary's hash."""
    summary = prepare_text(settings(test=(f"eval={tmp_path / 'eval'}",)))
    assert sorted(path.name for path in (tmp_path / "lm").iterdir()) == [
        "dev.ids",
        "eval.ids",
        "stats.json",
        "train.ids",
        "words.txt",
    ]
    assert Corpus.load(tmp_path / "lm" / "dev.ids").words.tolist() == [2, vocabulary.unk]
    assert Vocabulary.read(tmp_path / "lm" / "words.txt") == vocabulary
    stats = json.loads((tmp_path / "lm" / "stats.json").read_text(encoding="utf-8"))
    assert stats["vocabulary"] == {"size": len(vocabulary), "sha256": vocabulary.sha256()}
    assert stats["texts"]["dev"]["oov_words"] == 1
    assert "dev: 1 utterances, 2 words, 1 conversations, 1 out of vocabulary (50.00%): zebra (1)" in summary


def test_all_missing_inputs_are_named_at_once(settings, tmp_path):
    """One message lists every input that is not there, and nothing is written."""
    with pytest.raises(MissingInputError, match=r"missing 2 input\(s\).*no_words.*no_eval"):
        prepare_text(settings(words=tmp_path / "no_words", test=(f"eval={tmp_path / 'no_eval'}",)))
    assert not (tmp_path / "lm").exists()


@pytest.mark.parametrize("word", ["eval", "=file", "eval=", "train=file", "dev=file"])
def test_bad_names_of_test_sets_are_refused(settings, word):
    """A test set needs a name of its own and a file."""
    with pytest.raises(ConfigError, match="NAME=FILE"):
        prepare_text(settings(test=(word,)))


def test_a_name_given_twice_is_refused(settings, tmp_path):
    """Two test sets of one name would write one file."""
    with pytest.raises(ConfigError, match="'eval' is named twice"):
        prepare_text(settings(test=(f"eval={tmp_path / 'eval'}", f"eval={tmp_path / 'dev'}")))
