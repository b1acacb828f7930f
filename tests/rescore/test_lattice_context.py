# SPDX-License-Identifier: Apache-2.0
"""``mpq rescore lattice`` in context: against N-best lists in context, and whatever archives utterances lie in."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError, LatticeError, TextError
from kaldi_mpq.rescore.fusion import Fusion, Term
from kaldi_mpq.rescore.lattice_run import rescore_lattices
from kaldi_mpq.rescore.lattice_settings import LatticeSettings
from kaldi_mpq.rescore.run import rescore_nbest
from kaldi_mpq.rescore.settings import NbestSettings
from kaldi_mpq.text.conversations import conversations_of
from tests.native.random_lattices import readable
from tests.rescore.test_context import all_lattices, write_jobs

MOST_PATHS = 300


def write_data(place: Path, keys: list[str], alone: bool = False) -> Path:
    """Write a data directory of two conversations whose sides take turns; or of as many as there are utterances."""
    place.mkdir(exist_ok=True)
    side = {key: key if alone else key.rsplit("-", 1)[0] for key in keys}
    start = {key: 10.0 * i % 97 for i, key in enumerate(keys)}
    files = {name: "a" if i < 3 else "b" for i, name in enumerate(sorted(set(side.values())))}
    (place / "utt2spk").write_text("".join(f"{key} {side[key]}\n" for key in keys))
    times = {key: f"{start[key]:.2f} {start[key] + 1:.2f}" for key in keys}
    (place / "segments").write_text("".join(f"{key} {side[key]} {times[key]}\n" for key in keys))
    if not alone:
        (place / "reco2file_and_channel").write_text("".join(f"{name} {file} 1\n" for name, file in files.items()))
    return place


@pytest.fixture(scope="module")
def small(decode) -> native.Lattices:
    """The lattices whose paths can be listed: of five sides, one to five of each."""
    lattices = all_lattices(decode)
    counts = np.diff(native.nbest(lattices, MOST_PATHS + 1, 0.1).lattice_offsets)
    return lattices.select(np.flatnonzero(counts <= MOST_PATHS))


@pytest.fixture(scope="module")
def meeting(small, tmp_path_factory) -> tuple[Path, Path]:
    """A data directory of conversations of different lengths, and its decode directory of one job."""
    place = write_data(tmp_path_factory.mktemp("meeting"), sorted(small.keys))
    lengths = [[len(keys) for keys in conversations_of(place, sides=sides)] for sides in (False, True)]
    assert len(set(lengths[0])) == 2 and len(lengths[1]) == 5 and len(set(lengths[1])) > 2
    return place, write_jobs(place / "decode", small, [list(range(len(small)))])


@pytest.fixture
def settings(meeting, lang, lm, tmp_path):
    """Return a function that makes settings."""

    def make(**changes) -> LatticeSettings:
        usual = {"lm": lm, "old_lang": lang, "threads": 1, "context": "conversation", "data": meeting[0]}
        usual |= {"check_old_lm": False, "context_window": 30}
        return LatticeSettings(**{"in_dir": meeting[1], "out_dir": tmp_path / "out", **usual, **changes})

    return make


def assert_same(directory: Path, other: Path, atol: float = 1e-4) -> None:
    """Fail unless two directories have the same lattices in the same order, up to rounding of graph costs."""
    found, expected = all_lattices(directory), all_lattices(other)
    assert found.keys == expected.keys
    assert_same_lattices(found, expected, atol)


def assert_same_lattices(found: native.Lattices, expected: native.Lattices, atol: float) -> None:
    """The same, of lattices whose keys are known to be the same."""
    for name in ("state_offsets", "arc_offsets", "arc_word", "arc_dest", "arc_tids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("arc_graph", "final_graph", "arc_acoustic", "final_acoustic"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=atol)


@pytest.mark.parametrize("model", ["lstm", "transformer"])
@pytest.mark.parametrize("context", ["side", "conversation"])
def test_exact_composition_agrees_with_nbest(settings, make_lm, tmp_path, model, context):
    """Every path of a conversation's lattices costs what it costs in the list of all paths."""
    chosen = settings(lm=make_lm(5, model), context=context, exact=True, max_ngram_order=0, weight=0.75)
    rescore_lattices(chosen)
    shared = ("in_dir", "lm", "old_lang", "threads", "context", "data", "context_window", "weight")
    listed = NbestSettings(**{name: getattr(chosen, name) for name in shared}, out_dir=tmp_path / "listed",
                           n=MOST_PATHS)  # fmt: skip
    rescore_nbest(listed)
    ours, theirs = all_lattices(chosen.out_dir), all_lattices(listed.out_dir)
    assert ours.keys == theirs.keys
    for i in range(len(ours)):
        wanted, found = readable(theirs, i), readable(ours, i)
        assert [row[:2] for row in found] == [row[:2] for row in wanted]
        np.testing.assert_allclose([row[2] for row in found], [row[2] for row in wanted], atol=3e-3)


@pytest.mark.parametrize("model", ["lstm", "transformer"])
@pytest.mark.parametrize("context", ["side", "conversation"])
def test_the_split_into_jobs_does_not_matter(settings, make_lm, small, tmp_path, model, context):
    """Conversations torn over three archives, one job at a time or all at once: every utterance gets the same."""
    usual = {"lm": make_lm(8, model), "context": context}
    rescore_lattices(settings(**usual))
    count = len(small)
    jobs = [list(range(j, count, 3))[::-1] for j in range(3)]
    torn = write_jobs(tmp_path / "torn", small, jobs)
    rescore_lattices(settings(**usual, in_dir=torn, out_dir=tmp_path / "together"))
    for job in (2, 3, 1):
        summary = rescore_lattices(settings(**usual, in_dir=torn, out_dir=tmp_path / "each", job=job))
        assert f"{len(jobs[job - 1])} utterances in, {len(jobs[job - 1])} out, 0 passed through" in summary
    assert all_lattices(tmp_path / "each").keys == all_lattices(torn).keys
    assert_same(tmp_path / "together", tmp_path / "each")
    expected = all_lattices(tmp_path / "out")
    assert expected.keys == small.keys
    assert_same_lattices(all_lattices(tmp_path / "each"), expected.select([i for job in jobs for i in job]), 1e-4)


def test_a_conversation_of_one_utterance_is_one_without_context(settings, small, tmp_path):
    """What comes out is what does with --context utterance, though it has gone another way."""
    alone = write_data(tmp_path / "alone", sorted(small.keys), alone=True)
    summary = rescore_lattices(settings(data=alone))
    plain = rescore_lattices(settings(context="utterance", data=None, out_dir=tmp_path / "plain"))
    assert_same(tmp_path / "out", tmp_path / "plain")
    assert summary.split(" LM evaluations")[0].rsplit(",", 1)[0] == plain.split(" LM evaluations")[0].rsplit(",", 1)[0]


def test_sides_and_conversations_are_different_contexts(settings, make_lm, tmp_path):
    """The first utterance of a side costs what it does alone, that of a conversation too, the others do not."""
    found = {}
    lm = make_lm(6, "transformer")  # the random LSTM forgets some of what was said
    for context in ("utterance", "side", "conversation"):
        usual = {"lm": lm, "data": None} if context == "utterance" else {"lm": lm}
        rescore_lattices(settings(context=context, out_dir=tmp_path / context, exact=True, max_ngram_order=0, **usual))
        lattices = all_lattices(tmp_path / context)
        best = native.best_paths(lattices, 0.1)
        found[context] = dict(zip(lattices.keys, best.graph))
    alone, side, conversation = found.values()
    data = settings().data
    for here, there, sides in ((side, alone, True), (conversation, alone, False)):
        same = {key for key in here if abs(here[key] - there[key]) < 1e-3}
        assert same == {keys[0] for keys in conversations_of(data, sides=sides)}
    assert sum(abs(side[key] - conversation[key]) > 1e-3 for key in side) > 3


def test_what_cannot_be_rescored_leaves_the_conversation_as_it_was(settings, meeting, small, tmp_path, caplog):
    """A word beyond the vocabulary, first, last and between: it goes through, the others follow each other."""
    conversation = max(conversations_of(meeting[0]), key=len)
    bad = [small.keys.index(conversation[i]) for i in (0, 2, 3, -1)]
    others = [i for i in range(len(small)) if i not in bad]
    rescore_lattices(settings(in_dir=write_jobs(tmp_path / "in", small, [others]), out_dir=tmp_path / "without"))
    spoilt = small.select(bad)
    firsts = spoilt.arc_offsets[spoilt.state_offsets[:-1]]
    spoilt.arc_word[firsts] = 99_999
    both = native.Lattices.concat([small.select(others), spoilt])
    source = write_jobs(tmp_path / "spoilt", both, [list(range(len(both)))[::-1]])
    caplog.set_level(logging.WARNING)
    assert "4 passed through unchanged" in rescore_lattices(settings(in_dir=source))
    found = all_lattices(tmp_path / "out")
    assert found.keys == both.keys[::-1]
    assert sum("word id 99999" in message for message in caplog.messages) == 4
    back = found.select(np.arange(len(found))[::-1])
    assert_same_lattices(back.select(np.arange(len(others))), all_lattices(tmp_path / "without"), 1e-4)
    assert_same_lattices(back.select(np.arange(len(others), len(back))), spoilt, 1e-4)
    with pytest.raises(LatticeError, match="4 utterance"):
        rescore_lattices(settings(in_dir=source, strict=True))


def test_several_models_go_on_each_on_its_own(settings, make_lm, sample, tmp_path):
    """An LSTM, a transformer and an n-gram: as N-best lists have it."""
    arpa = sample / "data" / "local" / "lm" / "ami.o3g.kn.arpa.gz"
    Fusion(0.75, (Term(make_lm(1), 0.5), Term(make_lm(2, "transformer"), 0.25), Term(arpa, 0.5)), 0.5).write(
        tmp_path / "fusion.yaml"
    )
    chosen = settings(lm=None, fusion=tmp_path / "fusion.yaml", exact=True, max_ngram_order=0)
    rescore_lattices(chosen)
    shared = ("in_dir", "fusion", "old_lang", "threads", "context", "data", "context_window")
    rescore_nbest(NbestSettings(**{name: getattr(chosen, name) for name in shared}, out_dir=tmp_path / "listed",
                                n=MOST_PATHS))  # fmt: skip
    ours, theirs = (native.best_paths(all_lattices(tmp_path / name), 0.1) for name in ("out", "listed"))
    np.testing.assert_allclose(ours.graph, theirs.graph, atol=5e-3)
    np.testing.assert_allclose(ours.acoustic, theirs.acoustic, atol=1e-2)


def test_nothing_stays_but_the_archives(settings, meeting, tmp_path):
    """Also of a run that was killed in the middle, and of one that fails; text archives are text."""
    left = tmp_path / "out" / ".context.1"
    left.mkdir(parents=True)
    (left / "before.ark").write_text("half a file")
    rescore_lattices(settings(job=1, text=True))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["lat.1.gz", "num_jobs"]
    binary = tmp_path / "binary"
    rescore_lattices(settings(out_dir=binary))
    assert_same(tmp_path / "out", binary, 1e-2)
    source = shutil.copytree(meeting[1], tmp_path / "in")
    (source / "lat.1.gz").write_bytes((source / "lat.1.gz").read_bytes()[:-500])
    with pytest.raises(LatticeError, match=r"lat\.1\.gz"):
        rescore_lattices(settings(in_dir=source, out_dir=tmp_path / "failed"))
    assert [path.name for path in (tmp_path / "failed").iterdir()] == ["num_jobs"]


def test_an_utterance_in_two_archives_is_refused(settings, small, tmp_path):
    """It cannot be said twice; which of the two is the one?"""
    source = write_jobs(tmp_path / "in", small, [[0, 1], [1, 2]])
    with pytest.raises(LatticeError, match=f"there twice.*{small.keys[1]}"):
        rescore_lattices(settings(in_dir=source))


def test_settings_and_directories_that_do_not_fit_are_refused(settings, meeting, make_lm, tmp_path):
    """--context needs --data and the reverse; a backward LM; a data directory of other utterances."""
    with pytest.raises(ConfigError, match="need each other"):
        settings(data=None)
    with pytest.raises(ConfigError, match="context_window"):
        settings(context_window=0)
    with pytest.raises(ConfigError, match="forward LMs only"):
        settings(backward=True)
    with pytest.raises(ConfigError, match=r"forward LMs only.*found a backward one"):
        rescore_lattices(settings(lm=make_lm(2, backward=True)))
    assert not (tmp_path / "out").exists()
    other = write_data(tmp_path / "data", list(all_lattices(meeting[1]).keys)[2:])
    with pytest.raises(TextError, match=r"2 utterance\(s\) in no conversation"):
        rescore_lattices(settings(data=other))
