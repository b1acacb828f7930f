# SPDX-License-Identifier: Apache-2.0
"""``mpq rescore nbest`` on real lattices: the committed sample of AMI, and Kaldi's own programs as readers."""

from __future__ import annotations

import dataclasses
import gzip

import numpy as np
import pytest

from kaldi_mpq import native
from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import ConfigError, LatticeError, MissingInputError
from kaldi_mpq.native.kept_scores import KeptScores
from kaldi_mpq.rescore.fusion import Fusion, Term
from kaldi_mpq.rescore.run import rescore_nbest
from kaldi_mpq.rescore.settings import NbestSettings
from kaldi_mpq.score.run import score_wer
from kaldi_mpq.score.settings import TuneSettings, WerSettings
from kaldi_mpq.score.tune import tune_weights
from tests.native.random_lattices import readable


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


def costs_of(directory) -> dict[tuple, float]:
    """Return (utterance, words, transition-ids) -> graph cost of every path of a directory's lattices."""
    found = {}
    for lattices in read(directory):
        for i, key in enumerate(lattices.keys):
            found |= {(key, *row[:2]): row[2] for row in readable(lattices, i)}
    return found


def test_fusion_is_the_sum_of_its_terms(decode, lang, make_lm, sample, tmp_path):
    """Each path changes by the weighted sum of what each model, forward, backward or n-gram, changes it by alone."""
    back, arpa = make_lm(2, backward=True), sample / "data" / "local" / "lm" / "ami.o3g.kn.arpa.gz"
    usual = {"in_dir": decode, "old_lang": lang, "n": 3, "threads": 1}
    terms = (Term(make_lm(1), 0.5), Term(back, 0.25), Term(arpa, -0.5))
    Fusion(0.75, terms, 1.5).write(tmp_path / "fusion.yaml")
    rescore_nbest(NbestSettings(**usual, out_dir=tmp_path / "all", fusion=tmp_path / "fusion.yaml", keep_scores=True))
    rescore_nbest(NbestSettings(**usual, out_dir=tmp_path / "none", lm=back, weight=0.0))
    before, total = (costs_of(tmp_path / name) for name in ("none", "all"))
    expected = {path: cost - 1.5 * sum(word > 0 for word in path[1]) for path, cost in before.items()}
    for i, term in enumerate(terms):
        single = Fusion(0.75 / 3, (Term(term.lm, term.weight),))
        single.write(tmp_path / f"{i}.yaml")
        rescore_nbest(NbestSettings(**usual, out_dir=tmp_path / f"{i}", fusion=tmp_path / f"{i}.yaml"))
        alone = costs_of(tmp_path / f"{i}")
        expected = {path: cost + alone[path] - before[path] for path, cost in expected.items()}
    assert expected.keys() == total.keys() and len(total) > 40
    np.testing.assert_allclose([total[path] for path in expected], list(expected.values()), atol=2e-3)


def test_kept_scores_are_those_of_the_lattices_written(decode, lang, lm, tmp_path):
    """Graph - w OLD + w NEW of scores.J.npz are the costs in lat.J.gz; without the option older ones are removed."""
    usual = NbestSettings(in_dir=decode, out_dir=tmp_path, lm=lm, old_lang=lang, n=5, threads=1, keep_scores=True)
    rescore_nbest(usual)
    costs = costs_of(tmp_path)
    for job, lattices in enumerate(read(tmp_path), start=1):
        kept = KeptScores.load(tmp_path / f"scores.{job}.npz")
        assert list(kept.keys) == lattices.keys
        assert kept.info["fusion"] == usual.make_fusion().to_dict()
        new = kept.graph - 0.5 * kept.old + 0.5 * kept.terms[0]
        for i, key in enumerate(lattices.keys):
            here = slice(kept.lattice_offsets[i], kept.lattice_offsets[i + 1])
            written = [cost for path, cost in costs.items() if path[0] == key]
            np.testing.assert_allclose(sorted(new[here]), sorted(written), rtol=1e-5, atol=1e-3)
    rescore_nbest(dataclasses.replace(usual, keep_scores=False, job=1))
    assert [path.name for path in tmp_path.glob("scores.*")] == ["scores.2.npz"]


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


def test_tuned_error_rate_is_that_of_lattices_rescored_with_the_tuned_weights(decode, lang, make_lm, sample, tmp_path):
    """Kept scores and a search on the one side, the LMs again, lattices and their best paths on the other."""
    usual = {"in_dir": decode, "old_lang": lang, "n": 10, "threads": 1}
    models = {"lm": make_lm(4), "source_lm": sample / "data/local/lm/ami.o3g.kn.arpa.gz", "weight": 0.25}
    rescore_nbest(NbestSettings(**usual, **models, out_dir=tmp_path / "kept", keep_scores=True))
    words, data = lang / "words.txt", sample / "data" / "dev"
    tune_weights(TuneSettings(tmp_path / "tune", words, f"{data}={tmp_path / 'kept'}", plot=False))
    best = read_json(tmp_path / "tune" / "tune.json")["best"]
    fusion = tmp_path / "tune" / "fusion.yaml"
    rescore_nbest(NbestSettings(**usual, out_dir=tmp_path / "again", fusion=fusion))
    point = {"min_lmwt": int(best["lmwt"]), "max_lmwt": int(best["lmwt"]), "word_ins_penalty": (0.0,)}
    score_wer(WerSettings(tmp_path / "wer", words, f"{data}={tmp_path / 'again'}", scorer="kaldialign", **point))
    found = read_json(tmp_path / "wer" / "wer.json")["sets"]["dev"]
    names = ("errors", "substitutions", "deletions", "insertions", "ref_words", "utterances")
    assert {name: found[name] for name in names} == {name: best["dev"][name] for name in names}
    assert best["dev"]["errors"] <= read_json(tmp_path / "tune" / "tune.json")["before"]["dev"]["errors"]


def test_another_old_lm_is_noticed(decode, lang, lm, sample, tmp_path, caplog):
    """The LM inside the lattices raises no doubt; one whose words all cost the same does."""
    usual = NbestSettings(in_dir=decode, out_dir=tmp_path, lm=lm, old_lang=lang, n=2, threads=1, job=1)
    rescore_nbest(usual)
    assert "LM inside the lattices?" not in caplog.text
    words = [line.split()[0] for line in (lang / "words.txt").open(encoding="utf-8")][1:]
    lines = [f"-3.9\t{word}" for word in words if word not in ("#0", "<s>")] + ["-99\t<s>"]
    other, listed = tmp_path / "unigram.arpa", "\n".join(lines)
    other.write_text(f"\\data\\\nngram 1={len(lines)}\n\n\\1-grams:\n{listed}\n\n\\end\\\n")
    rescore_nbest(dataclasses.replace(usual, old_lm=str(other)))
    assert f"is {other} the LM inside the lattices?" in caplog.text
