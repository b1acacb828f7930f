# SPDX-License-Identifier: Apache-2.0
"""N-best rescoring in context: against a pass over whole conversations, and whatever archives utterances lie in."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError, TextError
from kaldi_mpq.native.kept_scores import KeptScores
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.rescore.run import rescore_nbest
from kaldi_mpq.rescore.settings import NbestSettings
from kaldi_mpq.text.conversations import conversations_of


def all_lattices(directory: Path) -> native.Lattices:
    """Return the lattices of all jobs."""
    jobs = int((directory / "num_jobs").read_text())
    parts = []
    for job in range(1, jobs + 1):
        with native.LatticeReader(str(directory / f"lat.{job}.gz")) as reader:
            parts += list(reader.batches())
    return native.Lattices.concat(parts)


def write_jobs(directory: Path, lattices: native.Lattices, jobs: list[list[int]]) -> Path:
    """Write lattices into a decode directory, the jobs being lists of their numbers."""
    directory.mkdir()
    (directory / "num_jobs").write_text(f"{len(jobs)}\n")
    for number, chosen in enumerate(jobs, start=1):
        with native.LatticeWriter(str(directory / f"lat.{number}.gz")) as writer:
            writer.write(lattices.select(np.array(chosen)))
    return directory


@pytest.fixture(scope="module")
def meetings(decode, sample, tmp_path_factory) -> tuple[Path, Path]:
    """A data directory of two meetings of two or more sides each that take turns, and its decode directory."""
    place = tmp_path_factory.mktemp("meetings")
    keys = sorted(all_lattices(decode).keys)
    sides = sorted({key.rsplit("-", 1)[0] for key in keys})
    (place / "utt2spk").write_text("".join(f"{key} {key.rsplit('-', 1)[0]}\n" for key in keys))
    start = {key: 10.0 * keys.index(key) % 97 for key in keys}
    (place / "segments").write_text(
        "".join(f"{key} {key.rsplit('-', 1)[0]} {start[key]:.2f} {start[key] + 1:.2f}\n" for key in keys)
    )
    (place / "reco2file_and_channel").write_text("".join(f"{side} m{i % 2} {i}\n" for i, side in enumerate(sides)))
    assert len(sides) >= 4
    return place, write_jobs(place / "decode", all_lattices(decode), [list(range(len(keys)))])


@pytest.fixture
def settings(meetings, lang, lm, tmp_path):
    """Return a function that makes settings."""

    def make(**changes) -> NbestSettings:
        usual = {"lm": lm, "old_lang": lang, "n": 4, "threads": 1, "context": "conversation", "data": meetings[0]}
        return NbestSettings(**{"in_dir": meetings[1], "out_dir": tmp_path / "out", **usual, **changes})

    return make


def kept_of(directory: Path) -> dict[str, tuple[list[tuple[int, ...]], np.ndarray, np.ndarray]]:
    """Return of each utterance its hypotheses, their new LM's costs, and which is the best one."""
    found = {}
    for path in sorted(directory.glob("scores.*.npz")):
        kept = KeptScores.load(path)
        total = kept.graph - 0.5 * kept.old + 0.5 * kept.terms[0] + 0.1 * kept.acoustic
        for i, key in enumerate(kept.keys):
            paths = range(kept.lattice_offsets[i], kept.lattice_offsets[i + 1])
            words = [tuple(kept.words[kept.word_offsets[p] : kept.word_offsets[p + 1]].tolist()) for p in paths]
            found[str(key)] = words, kept.terms[0, list(paths)], int(np.argmin(total[list(paths)]))
    return found


@torch.no_grad()
def cost_after(model, before: list[int], words: tuple[int, ...]) -> float:
    """Return the cost of a sentence after everything that was fed before it, in one pass."""
    config = model.config
    table = torch.log_softmax(model.logits(model(torch.tensor([[*before, config.bos, *words]]))[0])[0].double(), dim=1)
    asked = [*words, config.eos]
    return -sum(float(table[len(before) + i, word]) for i, word in enumerate(asked))


@pytest.mark.parametrize("context", ["side", "conversation"])
@pytest.mark.parametrize("backward", [False, True])
def test_every_hypothesis_is_scored_after_the_best_ones_before_it(settings, meetings, make_lm, context, backward):
    """Costs are those of one pass over the best hypotheses of the conversation so far, in time order."""
    chosen = settings(context=context, keep_scores=True, lm=make_lm(7, backward=backward))
    rescore_nbest(chosen)
    found, model = kept_of(chosen.out_dir), open_lm(chosen.lm)
    turn = -1 if backward else 1
    crossed = 0
    for conversation in conversations_of(meetings[0], sides=context == "side"):
        before: list[int] = []
        for key in conversation:
            words, costs, best = found[key]
            expected = [cost_after(model, before, hypothesis[::turn]) for hypothesis in words]
            np.testing.assert_allclose(costs, expected, atol=2e-3)
            crossed += bool(before)
            before += [model.config.bos, *words[best][::turn]]
    assert crossed >= 10


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_the_split_into_jobs_does_not_matter(settings, meetings, make_lm, tmp_path, model):
    """Conversations torn over three archives, one job at a time or all at once: every utterance gets the same."""
    usual = settings(lm=make_lm(8, model), keep_scores=True, context_window=30)
    rescore_nbest(usual)
    expected = kept_of(usual.out_dir)
    count = len(expected)
    torn = write_jobs(tmp_path / "torn", all_lattices(meetings[1]), [list(range(j, count, 3))[::-1] for j in range(3)])
    together = dataclasses.replace(usual, in_dir=torn, out_dir=tmp_path / "together")
    rescore_nbest(together)
    alone = dataclasses.replace(usual, in_dir=torn, out_dir=tmp_path / "alone")
    for job in (2, 3, 1):
        rescore_nbest(dataclasses.replace(alone, job=job))
    for directory in (together.out_dir, alone.out_dir):
        assert all_lattices(directory).keys == all_lattices(torn).keys
        for key, (words, costs, best) in kept_of(directory).items():
            assert (words, best) == (expected[key][0], expected[key][2])
            np.testing.assert_allclose(costs, expected[key][1], atol=1e-3)


def test_context_matters_and_nothing_is_carried_without_it(settings, tmp_path):
    """Utterances on their own, in their sides and in their conversations get different costs; first ones the same."""
    found = {}
    for context in ("utterance", "side", "conversation"):
        data = {"data": None} if context == "utterance" else {}
        rescore_nbest(settings(context=context, keep_scores=True, out_dir=tmp_path / context, **data))
        found[context] = kept_of(tmp_path / context)
    alone, side, conversation = found.values()
    same = {key for key in alone if np.allclose(alone[key][1], side[key][1], atol=1e-3)}
    sides = {key.rsplit("-", 1)[0] for key in alone}
    assert len(same) == len(sides)
    changed = [key for key in alone if not np.allclose(side[key][1], conversation[key][1], atol=1e-3)]
    assert len(changed) > len(alone) / 3


def test_an_utterance_that_cannot_be_rescored_leaves_the_conversation_as_it_was(settings, meetings, tmp_path):
    """A word beyond the vocabulary: it goes through, and the next one follows the one before it."""
    conversation = max(conversations_of(meetings[0]), key=len)
    lattices = all_lattices(meetings[1])
    bad = lattices.keys.index(conversation[2])
    others = [i for i in range(len(lattices)) if i != bad]
    without = settings(in_dir=write_jobs(tmp_path / "in", lattices, [others]), keep_scores=True)
    rescore_nbest(without)
    spoilt = all_lattices(meetings[1])
    only = spoilt.select(np.array([bad]))
    only.arc_word[int(np.flatnonzero(only.arc_word > 0)[0])] = 99_999
    both = native.Lattices.concat([spoilt.select(np.array(others)), only])
    source = write_jobs(tmp_path / "spoilt", both, [list(range(len(both)))])
    with_it = settings(in_dir=source, out_dir=tmp_path / "out2", keep_scores=True)
    assert "1 passed through unchanged" in rescore_nbest(with_it)
    expected, found = kept_of(without.out_dir), kept_of(with_it.out_dir)
    for key, (_, costs, _) in expected.items():
        np.testing.assert_allclose(found[key][1], costs, atol=1e-3)


def test_settings_and_directories_that_do_not_fit_are_refused(settings, meetings, tmp_path):
    """--context needs --data and the reverse; a data directory of other utterances."""
    with pytest.raises(ConfigError, match="need each other"):
        settings(data=None)
    with pytest.raises(ConfigError, match="need each other"):
        settings(context="utterance")
    with pytest.raises(ConfigError, match="context_window"):
        settings(context_window=0)
    other = shutil.copytree(meetings[0], tmp_path / "data", ignore=shutil.ignore_patterns("decode"))
    lines = (other / "utt2spk").read_text().splitlines(keepends=True)
    (other / "utt2spk").write_text("".join(lines[2:]))
    with pytest.raises(TextError, match=r"2 utterance\(s\) in no conversation"):
        rescore_nbest(settings(data=other))
