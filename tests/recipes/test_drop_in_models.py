# SPDX-License-Identifier: Apache-2.0
"""local/lmrescore*.sh: what may stand in the place of the language model, and what is made of it before the jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.recipes.drop_ins import DROP_INS, OUT, value

PRUNED, EXACT, BACK, NBEST, LATTICE_PT, NBEST_PT = DROP_INS
typical = pytest.mark.parametrize("drop_in", [PRUNED, NBEST_PT], ids=lambda one: one.name)


@pytest.fixture
def rnnlm(recipe) -> Path:
    """A Kaldi RNNLM directory of empty files."""
    path = recipe / "exp" / "rnnlm"
    (path / "config").mkdir(parents=True)
    for name in ("final.raw", "word_embedding.final.mat", "special_symbol_opts.txt", "config/words.txt"):
        (path / name).touch()
    return path


@pytest.mark.parametrize(
    "name", ["final.raw", "word_embedding.final.mat", "special_symbol_opts.txt", "config/words.txt"]
)
def test_parts_of_an_rnnlm_are_named(ask, rnnlm, name):
    """What Kaldi's script would look for, or its programs stumble over."""
    (rnnlm / name).unlink()
    done, calls = ask(PRUNED.script, *PRUNED.words(lm="exp/rnnlm"))
    assert done.returncode == 1
    assert (f"exp/rnnlm/{name}" if name != "final.raw" else "exp/rnnlm/config.json") in done.stderr
    assert calls.all() == []


def test_features_stand_for_an_embedding(ask, rnnlm):
    """feat_embedding.final.mat needs word_feats.txt, and with it is an RNNLM too."""
    (rnnlm / "word_embedding.final.mat").rename(rnnlm / "feat_embedding.final.mat")
    assert "missing 1 input(s): exp/rnnlm/word_feats.txt" in ask(PRUNED.script, *PRUNED.words(lm="exp/rnnlm"))[0].stderr
    (rnnlm / "word_feats.txt").touch()
    done, calls = ask(PRUNED.script, *PRUNED.words(lm="exp/rnnlm"))
    assert done.returncode == 0, done.stderr
    assert len(calls.of("lm import")) == 1


@pytest.mark.parametrize("drop_in", DROP_INS[:4], ids=lambda one: one.name)
def test_an_rnnlm_is_imported_once(ask, rnnlm, drop_in):
    """Before the jobs, which share it; the second call finds it."""
    options, backward = drop_in.words(lm="exp/rnnlm"), "true" if drop_in is BACK else "false"
    done, calls = ask(drop_in.script, *options)
    assert done.returncode == 0, done.stderr
    assert calls.all()[0] == ["lm", "import", "exp/rnnlm", "--backward", backward, f"{OUT}/lm"]
    assert {value(words, "--lm") for words in calls.of(drop_in.verb)} == {f"{OUT}/lm"}
    again = ask(drop_in.script, *options)[1]
    assert (len(again.of("lm import")), len(again.of(drop_in.verb))) == (0, 2)


def test_what_is_imported_is_imported_again_when_it_must_be(ask, recipe):
    """Made with other options, of other files, from newer ones, or only half."""
    for name in ("one.pt", "two.pt"):
        (recipe / "exp" / name).touch()

    def imports(lm: str, *options: str, fails: str = "") -> int:
        return len(ask(NBEST_PT.script, *options, *NBEST_PT.words(lm=f"exp/{lm}"), FAILS=fails)[1].of("lm import"))

    assert [imports("one.pt"), imports("one.pt")] == [1, 0]
    assert [imports("one.pt", "--nhead", "4"), imports("one.pt", "--nhead", "4"), imports("one.pt")] == [1, 0, 1]
    later = (recipe / OUT / "lm/imported").stat().st_mtime + 3600
    os.utime(recipe / "exp/one.pt", (later, later))
    assert imports("one.pt") == 1
    assert [imports("two.pt", fails="lm import"), imports("two.pt"), imports("two.pt")] == [1, 1, 0]


@pytest.mark.parametrize("drop_in", [PRUNED, EXACT, NBEST], ids=lambda one: one.name)
def test_only_an_rnnlm_is_not_normalised_unless_asked(ask, rnnlm, drop_in):
    """Kaldi's default is its own models' alone, and said; ours are probabilities whatever is asked."""
    for lm, options, expected in (
        ("exp/rnnlm", [], "false"),
        ("exp/rnnlm", ["--normalize", "true"], "true"),
        ("exp/lm", [], "true"),
    ):
        done, calls = ask(drop_in.script, *options, *drop_in.words(lm=lm))
        assert {value(words, "--normalize") for words in calls.of(drop_in.verb)} == {expected}
        assert ("--normalize true makes sure" in done.stdout) == (expected == "false")


@typical
def test_several_lms_are_a_file(ask, recipe, drop_in):
    """A fusion.yaml has LMs and weights; it is handed on, and the script's weight is not."""
    (recipe / "exp/fusion.yaml").touch()
    done, calls = ask(drop_in.script, *drop_in.words(lm="exp/fusion.yaml"))
    assert done.returncode == 0, done.stderr
    assert "weights are those of exp/fusion.yaml" in done.stdout
    for words in calls.of(drop_in.verb):
        assert value(words, "--fusion") == "exp/fusion.yaml"
        assert not {"--lm", "--weight"} & set(words)
    assert len(calls.all()) == 2


def test_an_import_that_fails_fails_the_script(ask, rnnlm, recipe):
    """Status 1 and the reason; no job is run, and lattices of an earlier run stay."""
    assert ask(PRUNED.script, *PRUNED.words())[0].returncode == 0
    done, calls = ask(PRUNED.script, *PRUNED.words(lm="exp/rnnlm"), FAILS="lm import")
    assert done.returncode == 1
    assert "ERROR (mpq) too bad" in done.stderr
    assert f"exp/rnnlm cannot be imported, see {OUT}/log/import_lm.log" in done.stderr
    assert calls.of("rescore lattice") == []
    assert (recipe / OUT / "lat.1.gz").exists()


@pytest.mark.parametrize("drop_in", [LATTICE_PT, NBEST_PT], ids=lambda one: one.name)
@pytest.mark.parametrize("symbol", [None, "<UNK>", "'<UNK>'"])
def test_a_pytorch_model_is_imported(ask, recipe, drop_in, symbol):
    """With vocabulary and heads; the OOV symbol may have the quotes that Kaldi's script needs; sizes may be said."""
    (recipe / "exp/model.pt").touch()
    sizes = "--model-type Transformer --embedding-dim 8 --hidden-dim 8 --nlayers 2 --nhead 4"
    options = [] if symbol is None else [*sizes.split(), "--oov-symbol", symbol]
    done, calls = ask(drop_in.script, *options, *drop_in.words(lm="exp/model.pt"))
    assert done.returncode == 0, done.stderr
    heads, unk = ("8", "<unk>") if symbol is None else ("4", "<UNK>")
    words = ["exp/model.pt", "--words", "data/lang_tg/words.txt", "--heads", heads, "--unk", unk, f"{OUT}/lm"]
    assert calls.of("lm import") == [words]
    assert {value(words, "--lm") for words in calls.of(drop_in.verb)} == {f"{OUT}/lm"}


@pytest.mark.parametrize("drop_in", [LATTICE_PT, NBEST_PT], ids=lambda one: one.name)
def test_a_model_of_ours_stands_for_a_pytorch_model(ask, recipe, rnnlm, drop_in):
    """A model.mpq or an LM directory is taken as it is, a Kaldi RNNLM imported as everywhere."""
    (recipe / "exp/model.mpq").touch()
    for lm in ("exp/model.mpq", "exp/lm"):
        done, calls = ask(drop_in.script, *drop_in.words(lm=lm))
        assert done.returncode == 0, done.stderr
        assert calls.of("lm import") == []
        assert {value(words, "--lm") for words in calls.of(drop_in.verb)} == {lm}
    assert ask(drop_in.script, *drop_in.words(lm="exp/rnnlm"))[1].of("lm import")[0][0] == "exp/rnnlm"
