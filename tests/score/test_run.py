# SPDX-License-Identifier: Apache-2.0
"""``mpq score wer`` from decode directories to wer.json, against Kaldi's own scoring."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from kaldi_mpq.artefact import read_json
from kaldi_mpq.cli.main import main
from kaldi_mpq.errors import LatticeError, ScoringError
from kaldi_mpq.score import sctk as sctk_module
from kaldi_mpq.score.aligned import read_per_utt, total
from kaldi_mpq.score.error_counts import ErrorCounts
from kaldi_mpq.score.run import score_wer
from kaldi_mpq.score.sctk import read_raw_sum
from kaldi_mpq.score.settings import WerSettings

pytest.importorskip("kaldi_mpq.native._archive", reason="the C++ extension is not built")

DECODE = "exp/chain/tdnn/decode_{}_tg"


def settings_for(recipe: Path, out: Path, **changes: object) -> WerSettings:
    """Return settings for the sample's two sets, with a short sweep."""
    pairs = [f"{recipe / 'data' / name}={recipe / DECODE.format(name)}" for name in ("dev", "eval")]
    chosen = {"min_lmwt": 9, "max_lmwt": 11, "word_ins_penalty": (0.0, 1.0), **changes}
    return WerSettings(out, recipe / "data/lang_tg/words.txt", pairs[0], (pairs[1],), **chosen)


@pytest.fixture
def recipe(sample, tmp_path) -> Path:
    """The sample, to be spoilt."""
    copy = tmp_path / "recipe"
    shutil.copytree(sample / "data", copy / "data", ignore=shutil.ignore_patterns("local", "train"))
    shutil.copytree(sample / "exp", copy / "exp")
    return copy


def test_report_is_complete(sctk, sample, tmp_path):
    """The point is dev's best; the same point is used for eval; everything in wer.json agrees with itself."""
    text = score_wer(settings_for(sample, tmp_path))
    report = read_json(tmp_path / "wer.json")
    dev, best = report["sets"]["dev"], report["best"]
    assert min(row["errors"] for row in dev["sweep"]) == dev["errors"] == dev["own_best"]["errors"]
    for name, entry in report["sets"].items():
        (at_best,) = [row for row in entry["sweep"] if {key: row[key] for key in best} == best]
        assert at_best["errors"] == entry["errors"] >= entry["own_best"]["errors"]
        speakers = ErrorCounts.total(ErrorCounts.from_dict(one) for one in entry["speakers"].values())
        alignments = read_per_utt(tmp_path / entry["per_utt"])
        assert total(alignments.values()) == speakers == ErrorCounts.from_dict(entry)
        assert len(entry["speakers"]) == 6 and entry["wer_95"][0] < entry["wer"] < entry["wer_95"][1]
        assert f"{entry['errors']} / {entry['ref_words']}" in text
        assert (tmp_path / name / "hyp.trn.sys").exists() and (tmp_path / name / "per_spk").exists()
    assert "sclite" in report["signature"] and "lmwt:9-11" in report["signature"]
    assert any(path.endswith("lat.2.gz") for path in report["made_by"]["inputs"])


def test_kaldialign_and_sclite_write_the_same(sctk, sample, tmp_path, caplog):
    """Counts at every point, and alignments; the log says who scored."""
    reports = []
    with caplog.at_level("INFO"):
        for scorer in ("sclite", "kaldialign"):
            score_wer(settings_for(sample, tmp_path / scorer, scorer=scorer))
            reports.append(read_json(tmp_path / scorer / "wer.json"))
            assert f"by {scorer}" in caplog.text
    assert reports[0]["sets"] == reports[1]["sets"]
    one, other = ((tmp_path / scorer / "eval" / "per_utt").read_bytes() for scorer in ("sclite", "kaldialign"))
    assert one == other


def test_kaldis_scoring_script_agrees(kaldi, sctk, recipe, tmp_path):
    """score_kaldi_wer.sh: the same words at every point, the same best point or one as good, the same error rate.

    compute-wer takes the alignment with the fewest errors and sclite one of the least weight, which may have one more.
    """
    score_wer(settings_for(recipe, tmp_path / "out"))
    root = Path(os.environ["KALDI_ROOT"])
    for name in ("steps", "utils"):
        (recipe / name).symlink_to(root / "egs/wsj/s5" / name)
    (recipe / "path.sh").write_text(f". {root}/tools/config/common_path.sh; export PATH=$PWD/utils:$PATH LC_ALL=C\n")
    options = "--cmd utils/parallel/run.pl --min-lmwt 9 --max-lmwt 11 --word-ins-penalty 0.0,1.0 --stats false"
    decode = DECODE.format("dev")
    kaldi(f"cd {recipe}; bash steps/scoring/score_kaldi_wer.sh {options} data/dev data/lang_tg {decode} >&2")
    entry = read_json(tmp_path / "out" / "wer.json")["sets"]["dev"]
    for row in entry["sweep"]:
        theirs = (recipe / decode / f"wer_{row['lmwt']}_{row['word_ins_penalty']}").read_text()
        errors, words = map(int, re.search(r"%WER \S+ \[ (\d+) / (\d+),", theirs).groups())
        assert words == row["ref_words"] and errors <= row["errors"] <= errors + 1
    best = float((recipe / decode / "scoring_kaldi" / "best_wer").read_text().split()[1])
    assert abs(best - entry["wer"]) < 100.0 / entry["ref_words"] + 0.005


def test_stm_is_scored_as_by_kaldis_swbd_script(kaldi, sctk, recipe, tmp_path):
    """The same counts as with lattices aligned to word boundaries, nbest-to-ctm and hubscr.pl."""
    point = {"min_lmwt": 10, "max_lmwt": 10, "word_ins_penalty": (0.5,)}
    score_wer(settings_for(recipe, tmp_path / "out", mode="stm", **point))
    utils, data, lang = (
        Path(os.environ["KALDI_ROOT"]) / "egs/wsj/s5/utils",
        recipe / "data/eval",
        recipe / "data/lang_tg",
    )
    kaldi(
        f"lattice-scale --inv-acoustic-scale=10 'ark:gunzip -c {recipe / DECODE.format('eval')}/lat.*.gz|' ark:- |"
        " lattice-add-penalty --word-ins-penalty=0.5 ark:- ark:- | lattice-1best ark:- ark:- |"
        f" lattice-align-words {lang}/phones/word_boundary.int {recipe}/exp/chain/tdnn/final.mdl ark:- ark:- |"
        f" nbest-to-ctm --frame-shift=0.03 ark:- - | perl {utils}/int2sym.pl -f 5 {lang}/words.txt |"
        f" perl {utils}/ctm/convert_ctm.pl {data}/segments {data}/reco2file_and_channel > {tmp_path}/eval.ctm"
    )
    for name in ("stm", "glm"):
        shutil.copy(data / name, tmp_path / name)
    sctk.run("hubscr.pl", "-V", "-l", "english", "-h", "hub5", "-g", "glm", "-r", "stm", "eval.ctm", cwd=tmp_path)
    ours = ErrorCounts.from_dict(read_json(tmp_path / "out" / "wer.json")["sets"]["eval"])
    counts = (ours.utterances, ours.correct, ours.substitutions, ours.deletions, ours.insertions)
    assert read_raw_sum(tmp_path / "eval.ctm.filt.raw") == counts


def test_first_pass_of_the_testbed(sctk, testbed, tmp_path):
    """The known error rate of dev at its best point: 22.18 by Kaldi's compute-wer."""
    point = {"min_lmwt": 11, "max_lmwt": 11, "word_ins_penalty": (0.5,)}
    score_wer(dataclasses.replace(settings_for(testbed, tmp_path, **point), eval=()))
    entry = read_json(tmp_path / "wer.json")["sets"]["dev"]
    assert (entry["utterances"], entry["ref_words"], f"{entry['wer']:.2f}") == (2205, 16985, "22.18")


def test_stm_and_text_agree_on_plain_words(sctk, recipe, tmp_path):
    """The sample's glm changes nothing, so times from real lattices must not either."""
    for mode in ("text", "stm"):
        score_wer(settings_for(recipe, tmp_path / mode, mode=mode, max_lmwt=9))
    text, stm = (read_json(tmp_path / mode / "wer.json")["sets"] for mode in ("text", "stm"))
    for name in ("dev", "eval"):
        # csrfilt splits hyphenated words, so a few words more can be right or wrong.
        assert abs(text[name]["errors"] - stm[name]["errors"]) <= 2
        assert 0 <= stm[name]["ref_words"] - text[name]["ref_words"] <= 6
        assert stm[name]["utterances"] == 30


def test_utterance_without_lattice_counts_as_deleted(sctk, recipe, tmp_path, caplog):
    """Kaldi's compute-wer would leave it out and report a better rate."""
    before = json.loads(json.dumps(_scored(recipe, tmp_path / "a")))
    for name in ("text", "utt2spk"):
        with open(recipe / "data/dev" / name, "a") as stream:
            stream.write("zz-1 three more words\n" if name == "text" else "zz-1 zz\n")
    after = _scored(recipe, tmp_path / "b")
    assert after["deletions"] == before["deletions"] + 3 and after["utterances"] == before["utterances"] + 1
    assert after["without_hypothesis"] == ["zz-1"] and "zz-1" in caplog.text


def _scored(recipe: Path, out: Path) -> dict:
    score_wer(settings_for(recipe, out, min_lmwt=10, max_lmwt=10))
    return read_json(out / "wer.json")["sets"]["dev"]


def test_hypothesis_without_reference_is_refused(sctk, recipe, tmp_path):
    """The first ones are named; nothing is reported."""
    text = recipe / "data/dev/text"
    lines = text.read_text().splitlines(keepends=True)
    text.write_text("".join(lines[2:]))
    with pytest.raises(ScoringError, match=f"2 utterance.*without a reference.*{lines[0].split()[0]}"):
        score_wer(settings_for(recipe, tmp_path / "out"))
    assert not (tmp_path / "out" / "wer.json").exists()


def test_ignored_words_are_dropped_on_both_sides(sctk, recipe, tmp_path):
    """Fewer reference words, and no error of such a word is left."""
    score_wer(settings_for(recipe, tmp_path, ignore_words=("um", "UH")))
    report = read_json(tmp_path / "wer.json")
    for name in ("dev", "eval"):
        alignments = read_per_utt(tmp_path / name / "per_utt").values()
        assert not {"um", "uh"} & {word for one in alignments for word in (*one.ref, *one.hyp)}
        text = [line.split()[1:] for line in (recipe / "data" / name / "text").read_text().splitlines()]
        dropped = sum(words.count("um") + words.count("uh") for words in text)
        plain = sum(map(len, text))
        assert dropped > 0
        assert report["sets"][name]["ref_words"] == plain - dropped
    assert "ignored:um,UH" in report["signature"]


def test_speakerless_utterance_is_named(recipe, tmp_path):
    """Before any lattice is read."""
    (recipe / "data/eval/utt2spk").write_text("someone else\n")
    with pytest.raises(ScoringError, match=r"eval/utt2spk.*without a speaker"):
        score_wer(settings_for(recipe, tmp_path / "out"))


def test_without_sctk(recipe, tmp_path, monkeypatch, caplog):
    """auto falls back and says so; sclite and stm say what to install."""
    monkeypatch.setattr(sctk_module.Sctk, "find", classmethod(lambda cls: None))
    with caplog.at_level("INFO"):
        score_wer(settings_for(recipe, tmp_path / "out", min_lmwt=10, max_lmwt=10))
    assert "no sclite found: kaldialign scores" in caplog.text
    assert "kaldialign" in read_json(tmp_path / "out" / "wer.json")["signature"]
    for change in ({"scorer": "sclite"}, {"mode": "stm"}):
        with pytest.raises(ScoringError, match="apt-get install sctk"):
            score_wer(settings_for(recipe, tmp_path / "out", **change))


def test_command_line(sctk, recipe, tmp_path, capsys):
    """The options reach the function; bad input is one line and status 2."""
    data, decode = recipe / "data/dev", recipe / DECODE.format("dev")
    words = ["--words", str(recipe / "data/lang_tg/words.txt"), "--dev", f"{data}={decode}", str(tmp_path / "out")]
    sweep = ["--min-lmwt", "10", "--max-lmwt=10", "--word-ins-penalty", "0.5"]
    assert main(["score", "wer", *sweep, *words]) == 0
    assert capsys.readouterr().out.startswith("%WER ")
    assert read_json(tmp_path / "out" / "wer.json")["best"] == {"lmwt": 10, "word_ins_penalty": 0.5}
    (decode / "lat.2.gz").unlink()
    (data / "utt2spk").unlink()
    assert main(["score", "wer", *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "utt2spk" in error and "lat.2.gz" in error


def test_broken_archive_is_named(sctk, recipe, tmp_path):
    """Cut off in the middle: an error with its name, and no report of half a set."""
    archive = recipe / DECODE.format("dev") / "lat.2.gz"
    archive.write_bytes(archive.read_bytes()[:20000])
    with pytest.raises(LatticeError, match=r"lat\.2\.gz"):
        score_wer(settings_for(recipe, tmp_path / "out"))
    assert not (tmp_path / "out" / "wer.json").exists()
