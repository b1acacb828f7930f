# SPDX-License-Identifier: Apache-2.0
"""``mpq rescore lattice`` on real lattices, with Kaldi's own programs as readers and as oracle."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError, LatticeError, MissingInputError
from kaldi_mpq.lm.kaldi_rnnlm.importer import import_kaldi_rnnlm
from kaldi_mpq.lm.settings import ImportSettings
from kaldi_mpq.rescore.fusion import Fusion, Term
from kaldi_mpq.rescore.lattice_run import rescore_lattices
from kaldi_mpq.rescore.lattice_settings import LatticeSettings
from kaldi_mpq.rescore.run import rescore_nbest
from kaldi_mpq.rescore.settings import NbestSettings
from tests.native.random_lattices import readable
from tests.rescore.test_run import read


@pytest.fixture
def small(decode, tmp_path):
    """A decode directory of two jobs of five lattices each, whose paths can be listed."""
    directory = tmp_path / "in"
    directory.mkdir()
    (directory / "num_jobs").write_text("2\n")
    for job, lattices in enumerate(read(decode), start=1):
        counts = np.diff(native.nbest(lattices, 301, 0.1).lattice_offsets)
        with native.LatticeWriter(str(directory / f"lat.{job}.gz")) as writer:
            writer.write(lattices.select(np.flatnonzero((counts > 5) & (counts <= 300))[:5]))
    return directory


@pytest.fixture
def settings(small, lang, lm, tmp_path):
    """Return a function that makes settings of a quick run."""
    usual = {"in_dir": small, "out_dir": tmp_path / "out", "lm": lm, "old_lang": lang, "threads": 1}
    return lambda **changed: LatticeSettings(**{**usual, **changed})


def test_same_utterances_come_out_in_the_same_jobs(decode, lang, lm, tmp_path):
    """Every job has the keys of its input in their order, and the summary counts them."""
    out = tmp_path / "out"
    summary = rescore_lattices(LatticeSettings(in_dir=decode, out_dir=out, lm=lm, old_lang=lang, threads=1))
    keys = [lattices.keys for lattices in read(decode)]
    assert [lattices.keys for lattices in read(out)] == keys
    total = sum(map(len, keys))
    assert f"{total} utterances in, {total} out, 0 passed through unchanged" in summary
    assert "LM evaluations" in summary and "real-time factor" in summary


def test_jobs_on_their_own_make_what_all_at_once_make(small, settings, tmp_path):
    """Jobs are independent, so a job that was killed can be run again alone."""
    rescore_lattices(settings(out_dir=tmp_path / "all"))
    for job in (2, 1, 2):
        rescore_lattices(settings(out_dir=tmp_path / "each", job=job))
    for whole, alone in zip(read(tmp_path / "all"), read(tmp_path / "each")):
        assert whole.keys == alone.keys and whole.num_arcs == alone.num_arcs
        np.testing.assert_allclose(whole.arc_graph, alone.arc_graph, rtol=1e-5, atol=1e-4)


def test_weight_zero_is_the_identity(small, settings, tmp_path, kaldi):
    """Kaldi finds the lattices equivalent, and we find them the same."""
    rescore_lattices(settings(weight=0.0))
    for before, after in zip(read(small), read(tmp_path / "out")):
        np.testing.assert_array_equal(before.arc_graph, after.arc_graph)
        np.testing.assert_array_equal(before.arc_tids, after.arc_tids)
    sides = (f"'ark:gunzip -c {place}/lat.*.gz|'" for place in (small, tmp_path / "out"))
    assert kaldi(f"lattice-equivalent {' '.join(sides)}").returncode == 0


@pytest.mark.parametrize("text", [False, True])
def test_kaldi_finds_the_best_paths_that_we_report(settings, tmp_path, kaldi, text):
    """Words, alignment and costs of every best path are the same for lattice-1best as for us."""
    rescore_lattices(settings(text=text))
    source = f"'ark:gunzip -c {tmp_path}/out/lat.*.gz|'"
    kaldi(
        f"lattice-1best --acoustic-scale=0.1 {source} ark:- | nbest-to-linear ark:- ark,t:{tmp_path}/ali "
        f"ark,t:{tmp_path}/words ark,t:{tmp_path}/graph ark,t:{tmp_path}/acoustic"
    )
    table = {
        name: dict(line.split(maxsplit=1) if " " in line.strip() else (line.strip(), "") for line in lines)
        for name in ("ali", "words", "graph", "acoustic")
        if (lines := (tmp_path / name).read_text().splitlines())
    }
    for lattices in read(tmp_path / "out"):
        best = native.best_paths(lattices, 0.1)
        offsets, words = best.words(lattices)
        for i, key in enumerate(lattices.keys):
            assert table["words"][key].split() == [str(word) for word in words[offsets[i] : offsets[i + 1]]]
            assert float(table["graph"][key]) == pytest.approx(best.graph[i], rel=1e-5, abs=1e-3)
            assert float(table["acoustic"][key]) == pytest.approx(best.acoustic[i], rel=1e-5, abs=1e-2)
            assert len(table["ali"][key].split()) > 10


def test_only_graph_costs_change(small, settings, tmp_path):
    """Words, alignments and acoustic costs of all paths are those of paths of the input."""
    rescore_lattices(settings(lattice_prune_beam=3.0))
    for before, after in zip(read(small), read(tmp_path / "out")):
        for i in range(len(before)):
            old = {(words, tids): acoustic for words, tids, _, acoustic in readable(before, i)}
            new = {(words, tids): acoustic for words, tids, _, acoustic in readable(after, i)}
            assert new and all(old[path] == pytest.approx(acoustic, abs=1e-3) for path, acoustic in new.items())


@pytest.mark.parametrize(("normalize", "use_phi"), [(True, False), (False, False), (True, True)])
def test_exact_composition_agrees_with_nbest(small, settings, lang, lm, tmp_path, normalize, use_phi):
    """With whole histories, every path costs in the lattice what it costs in the list of all paths."""
    old_reading = "backoff" if use_phi else "best"
    rescore_lattices(
        settings(exact=True, max_ngram_order=0, weight=0.75, normalize=normalize, old_reading=old_reading)
    )
    listed = NbestSettings(in_dir=small, out_dir=tmp_path / "listed", lm=lm, old_lang=lang, n=301, threads=1,
                           weight=0.75, use_phi=use_phi, normalize=normalize)  # fmt: skip
    rescore_nbest(listed)
    for lattice, paths in zip(read(tmp_path / "out"), read(tmp_path / "listed")):
        for i in range(len(lattice)):
            wanted, found = readable(paths, i), readable(lattice, i)
            assert [row[:2] for row in found] == [row[:2] for row in wanted]
            np.testing.assert_allclose([row[2] for row in found], [row[2] for row in wanted], atol=2e-3)


def test_density_ratio_and_a_backward_model(small, settings, make_lm, sample, tmp_path):
    """Exact composition of a fusion is the sum of its terms on every path, as for N-best lists."""
    arpa = sample / "data" / "local" / "lm" / "ami.o3g.kn.arpa.gz"
    terms = (Term(make_lm(1), 0.5), Term(make_lm(2, backward=True), 0.25), Term(arpa, -0.5))
    Fusion(0.75, terms, 1.5).write(tmp_path / "fusion.yaml")
    usual = {"lm": None, "fusion": tmp_path / "fusion.yaml"}
    rescore_lattices(settings(**usual, exact=True, max_ngram_order=0))
    listed = {name: getattr(settings(**usual), name) for name in ("in_dir", "old_lang", "fusion", "threads")}
    rescore_nbest(NbestSettings(**listed, out_dir=tmp_path / "listed", n=301))
    for lattice, paths in zip(read(tmp_path / "out"), read(tmp_path / "listed")):
        for i in range(len(lattice)):
            wanted = sorted((tuple(w for w in words if w), tids, g) for words, tids, g, _ in readable(paths, i))
            found = sorted((tuple(w for w in words if w), tids, g) for words, tids, g, _ in readable(lattice, i))
            assert [row[:2] for row in found] == [row[:2] for row in wanted]
            np.testing.assert_allclose([row[2] for row in found], [row[2] for row in wanted], atol=5e-3)


def test_the_new_lm_in_the_place_of_itself_changes_nothing(small, settings, lang, tmp_path):
    """Old and new LM the same, exact: graph costs stay."""
    rescore_lattices(settings(lm=lang / "G.fst", exact=True, weight=1.0, old_reading="backoff"))
    for before, after in zip(read(small), read(tmp_path / "out")):
        for i in range(len(before)):
            wanted, found = readable(before, i), readable(after, i)
            assert [row[:2] for row in found] == [row[:2] for row in wanted]
            np.testing.assert_allclose([row[2] for row in found], [row[2] for row in wanted], atol=2e-3)


def test_faulty_utterances_pass_through_and_strict_fails_after_writing(small, settings, tmp_path, caplog):
    """A cyclic lattice, an empty one and one with a word beyond the vocabulary: as they were, named, counted."""
    lattices = read(small)[0]
    first, arcs = lattices.state_offsets, lattices.arc_offsets
    lattices.arc_dest[arcs[first[1]] - 1] = 0
    lattices.start[1] = -1
    lattices.arc_word[arcs[first[2]]] = 99_999
    with native.LatticeWriter(str(small / "lat.1.gz")) as writer:
        writer.write(lattices)
    caplog.set_level(logging.WARNING)
    with pytest.raises(LatticeError, match=r"3 utterance\(s\) went through unchanged"):
        rescore_lattices(settings(strict=True))
    assert "cyclic" in caplog.text and "empty" in caplog.text and "word id 99999" in caplog.text
    after = read(tmp_path / "out")[0]
    assert after.keys == lattices.keys
    np.testing.assert_array_equal(after.select([2]).arc_graph, lattices.select([2]).arc_graph)


def test_a_damaged_archive_leaves_no_output(small, settings, tmp_path):
    """Half a file: an error that names it, and no lat.1.gz."""
    data = (small / "lat.1.gz").read_bytes()
    (small / "lat.1.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(LatticeError, match=r"lat\.1\.gz"):
        rescore_lattices(settings(check_old_lm=False))
    assert not (tmp_path / "out" / "lat.1.gz").exists()


def test_another_old_lm_is_noticed(decode, lang, lm, sample, tmp_path, caplog):
    """The LM inside the lattices raises no doubt, another one of the same words does."""
    usual = LatticeSettings(in_dir=decode, out_dir=tmp_path, lm=lm, old_lang=lang, threads=1, job=1, max_arcs=1)
    with caplog.at_level(logging.WARNING):
        rescore_lattices(usual)
        assert "LM inside the lattices?" not in caplog.text
        unigram = tmp_path / "unigram.arpa"
        words = [line.split()[0] for line in (lang / "words.txt").open(encoding="utf-8")][1:]
        lines = [f"-3.9\t{word}" for word in words if word not in ("#0", "<s>")] + ["-99\t<s>"]
        listed = "\n".join(lines)
        unigram.write_text(f"\\data\\\nngram 1={len(lines)}\n\n\\1-grams:\n{listed}\n\n\\end\\\n")
        rescore_lattices(dataclasses.replace(usual, old_lm=str(unigram)))
    assert "is " + str(unigram) + " the LM inside the lattices?" in caplog.text


def test_bad_settings_are_refused_before_anything_is_written(small, settings, make_lm, tmp_path):
    """Output on input, no such job, missing inputs, a forward LM that is said to be backward: one clear error each."""
    with pytest.raises(ConfigError, match="output directory is the input directory"):
        settings(out_dir=small)
    with pytest.raises(ConfigError, match="growth_ratio"):
        settings(growth_ratio=1.0)
    with pytest.raises(ConfigError, match="no such job, expected 1 to 2, found 3"):
        rescore_lattices(settings(job=3))
    with pytest.raises(MissingInputError, match=r"words\.txt.*no-lm"):
        rescore_lattices(settings(lm=tmp_path / "no-lm", old_lang=tmp_path / "no-lang"))
    with pytest.raises(ConfigError, match="not a backward LM"):
        rescore_lattices(settings(backward=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("normalize", [True, False])
def test_kaldis_rnnlm_rescoring_path_by_path(normalize, testbed, tmp_path, kaldi):
    """lattice-lmrescore-kaldi-rnnlm-pruned and we, with its network imported: the same paths, costs and alignments."""
    rnnlm, lang = testbed / "exp" / "rnnlm_lstm", testbed / "data" / "lang_tg"
    import_kaldi_rnnlm(ImportSettings(rnnlm, tmp_path / "lm"))
    source = tmp_path / "in"
    source.mkdir()
    (source / "num_jobs").write_text("1\n")
    with native.LatticeReader(str(testbed / "exp/chain/tdnn/decode_eval_tg/lat.4.gz")) as reader:
        lattices = next(iter(reader.batches(max_lattices=60)))
    arcs = np.diff(lattices.arc_offsets[lattices.state_offsets])
    with native.LatticeWriter(str(source / "lat.1.gz")) as writer:
        writer.write(lattices.select(np.sort(np.argsort(arcs)[10:22])))
    kaldi(
        f"lattice-lmrescore-kaldi-rnnlm-pruned --lm-scale=0.5 --acoustic-scale=0.1 --max-ngram-order=4 "
        f"--lattice-compose-beam=8 --normalize-probs={str(normalize).lower()} $(cat {rnnlm}/special_symbol_opts.txt) "
        f"{lang}/G.fst {rnnlm}/word_embedding.final.mat {rnnlm}/final.raw "
        f"'ark:gunzip -c {source}/lat.1.gz|' ark:{tmp_path}/kaldi.ark"
    )
    settings = LatticeSettings(in_dir=source, out_dir=tmp_path / "out", lm=tmp_path / "lm", old_lang=lang, threads=1,
                               frontier=1, normalize=normalize, old_reading="backoff")  # fmt: skip
    rescore_lattices(settings)
    with native.LatticeReader(f"ark:{tmp_path}/kaldi.ark") as reader:
        theirs = native.Lattices.concat(list(reader.batches()))
    ours = read(tmp_path / "out")[0]
    assert ours.keys == theirs.keys and len(ours) == 12
    for i in range(len(ours)):
        found, wanted = readable(ours, i), readable(theirs, i)
        assert [row[:2] for row in found] == [row[:2] for row in wanted]
        np.testing.assert_allclose([row[2] for row in found], [row[2] for row in wanted], rtol=1e-5, atol=3e-3)
