# SPDX-License-Identifier: Apache-2.0
"""``mpq rescore nbest`` on real lattices: the committed sample of AMI, and Kaldi's own programs as readers."""

from __future__ import annotations

import dataclasses
import gzip
import shutil

import numpy as np
import pytest
import torch

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError, LatticeError, MissingInputError
from kaldi_mpq.lm.checkpoint import save_lm
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.rescore.run import rescore_nbest
from kaldi_mpq.rescore.settings import NbestSettings
from kaldi_mpq.text.vocab import Vocabulary


@pytest.fixture(scope="module")
def lang(sample):
    """The lang directory whose LM is inside the lattices."""
    return sample / "data" / "lang_tg"


@pytest.fixture(scope="module")
def decode(sample):
    """A decode directory of two jobs."""
    return sample / "exp" / "chain" / "tdnn" / "decode_dev_tg"


@pytest.fixture(scope="module")
def lm(lang, tmp_path_factory):
    """A small untrained LSTM over the lang directory's words."""
    torch.manual_seed(0)
    words = Vocabulary.read(lang / "words.txt")
    path = tmp_path_factory.mktemp("lm")
    save_lm(path, build(ModelConfig("lstm", len(words), words.bos, words.eos, words.unk, 8, 8, 1)), {})
    shutil.copy(lang / "words.txt", path / "words.txt")
    return path


def read(directory) -> list[native.Lattices]:
    """Return the lattices of each job."""
    jobs = []
    for job in range(1, int((directory / "num_jobs").read_text()) + 1):
        with native.LatticeReader(str(directory / f"lat.{job}.gz")) as reader:
            jobs.append(native.Lattices.concat(list(reader.batches())))
    return jobs


def test_same_utterances_come_out_in_the_same_jobs(decode, lang, lm, tmp_path):
    """Every job has the keys of its input in their order, and the summary counts them."""
    summary = rescore_nbest(
        NbestSettings(in_dir=decode, out_dir=tmp_path / "out", lm=lm, old_lang=lang, n=20, threads=1)
    )
    keys = [lattices.keys for lattices in read(decode)]
    assert [lattices.keys for lattices in read(tmp_path / "out")] == keys
    total = sum(map(len, keys))
    assert f"{total} utterances in, {total} out, 0 passed through unchanged" in summary


def test_jobs_on_their_own_make_the_same_files_as_all_at_once(decode, lang, lm, tmp_path):
    """Jobs are independent, so a job that was killed can be run again alone."""
    usual = NbestSettings(in_dir=decode, out_dir=tmp_path / "all", lm=lm, old_lang=lang, n=5, threads=1)
    rescore_nbest(usual)
    for job in (2, 1, 2):
        rescore_nbest(dataclasses.replace(usual, out_dir=tmp_path / "each", job=job))
    for job in (1, 2):
        whole, alone = (gzip.decompress((tmp_path / name / f"lat.{job}.gz").read_bytes()) for name in ("all", "each"))
        assert whole == alone


def test_weight_zero_keeps_kaldis_best_paths(decode, lang, lm, tmp_path, kaldi):
    """Kaldi finds the same words, alignments and costs in what passed through with weight 0 as in the input."""
    rescore_nbest(NbestSettings(in_dir=decode, out_dir=tmp_path, lm=lm, old_lang=lang, weight=0.0, n=10, threads=1))
    best = (
        "lattice-best-path --acoustic-scale=0.1 'ark:gunzip -c {0}/lat.*.gz|' ark,t:- ark,t:{1}/ali.{2}; "
        "lattice-1best --acoustic-scale=0.1 'ark:gunzip -c {0}/lat.*.gz|' ark:- "
        "| nbest-to-linear ark:- ark:/dev/null ark:/dev/null ark,t:{1}/lm.{2} ark,t:{1}/ac.{2}"
    )
    before = kaldi(best.format(decode, tmp_path, "in")).stdout
    after = kaldi(best.format(tmp_path, tmp_path, "out")).stdout
    assert before == after and before.count(b"\n") >= 20
    assert (tmp_path / "ali.in").read_bytes() == (tmp_path / "ali.out").read_bytes()
    for name in ("lm", "ac"):
        costs = [
            np.array([float(line.split()[1]) for line in (tmp_path / f"{name}.{side}").open()])
            for side in ("in", "out")
        ]
        np.testing.assert_allclose(*costs, rtol=1e-5, atol=1e-3)


def test_utterances_that_pass_through_are_equivalent_for_kaldi(decode, lang, lm, tmp_path, kaldi):
    """A lattice with a word beyond the vocabulary is written as it was read."""
    lattices = read(decode)[0].select([0, 1, 2])
    words = np.array(lattices.arc_word)
    lattices.arc_word[int(np.flatnonzero(words > 0)[0])] = 99_999
    source = tmp_path / "in"
    source.mkdir()
    (source / "num_jobs").write_text("1\n")
    with native.LatticeWriter(str(source / "lat.1.gz")) as writer:
        writer.write(lattices)
    summary = rescore_nbest(NbestSettings(in_dir=source, out_dir=tmp_path / "out", lm=lm, old_lang=lang, threads=1))
    assert "3 utterances in, 3 out, 1 passed through unchanged" in summary
    one = "<(gunzip -c {}/lat.1.gz | lattice-copy --include=<(echo " + lattices.keys[0] + ") ark:- ark:-)"
    sides = [one.format(path) for path in (source, tmp_path / "out")]
    assert kaldi(f"lattice-equivalent ark:{sides[0]} ark:{sides[1]}").returncode == 0


def test_strict_fails_after_writing_everything(decode, lang, lm, tmp_path):
    """--strict makes a passed-through utterance an error, with the output whole all the same."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "num_jobs").write_text("1\n")
    empty = read(decode)[0].select([0])
    cyclic = np.array(empty.arc_dest)
    empty.arc_dest[:] = np.where(np.arange(len(cyclic)) == len(cyclic) - 1, 0, cyclic)
    with native.LatticeWriter(str(source / "lat.1.gz")) as writer:
        writer.write(empty)
    with pytest.raises(LatticeError, match=r"1 utterance\(s\) went through unchanged"):
        rescore_nbest(
            NbestSettings(in_dir=source, out_dir=tmp_path / "out", lm=lm, old_lang=lang, strict=True, threads=1)
        )
    assert read(tmp_path / "out")[0].keys == empty.keys


def test_bad_settings_are_refused_before_anything_is_written(decode, lang, lm, tmp_path):
    """Output on input, a weight outside 0..1, no such job, and missing inputs: one clear error each."""
    with pytest.raises(ConfigError, match="output directory is the input directory"):
        NbestSettings(in_dir=decode, out_dir=decode / ".." / decode.name, lm=lm, old_lang=lang)
    with pytest.raises(ConfigError, match="weight"):
        NbestSettings(in_dir=decode, out_dir=tmp_path / "out", lm=lm, old_lang=lang, weight=1.5)
    with pytest.raises(ConfigError, match="no such job, expected 1 to 2, found 3"):
        rescore_nbest(NbestSettings(in_dir=decode, out_dir=tmp_path / "out", lm=lm, old_lang=lang, job=3))
    with pytest.raises(MissingInputError, match=r"words\.txt.*no-lm"):
        rescore_nbest(
            NbestSettings(in_dir=decode, out_dir=tmp_path / "out", lm=tmp_path / "no-lm", old_lang=tmp_path / "no-lang")
        )
    assert not (tmp_path / "out").exists()
