# SPDX-License-Identifier: Apache-2.0
"""local/lmrescore*.sh: Kaldi's calls, every input checked before anything is written, exit codes, what is run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kaldi_mpq.cli.commands import COMMANDS
from kaldi_mpq.cli.main import parse
from kaldi_mpq.settings import build
from tests.conftest import ROOT
from tests.recipes.drop_ins import DROP_INS, OUT, SOURCE, DropIn, value

PRUNED, EXACT, BACK, NBEST, LATTICE_PT, NBEST_PT = DROP_INS
every = pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda one: one.name)
# One of five arguments, and one whose arguments have a weight or a vocabulary: what they share is in one file.
typical = pytest.mark.parametrize("drop_in", [PRUNED, NBEST_PT], ids=lambda one: one.name)


def with_weight(drop_in: DropIn, weight: str) -> list[str]:
    """Return options and arguments that give the script a weight."""
    if "weight" in drop_in.arguments:
        return drop_in.words(weight=weight)
    return ["--weight", weight, *drop_in.words()]


@every
def test_a_wrong_number_of_arguments_shows_the_usage(shell, drop_in):
    """On stdout with status 1, after the script's own command line, as Kaldi's scripts do."""
    words = "abcdefg"[: len(drop_in.arguments) + 1]
    for given in (words, words[:-2]):
        done = shell(drop_in.script, *given)
        assert done.returncode == 1
        assert done.stdout.splitlines()[0].endswith(f"{drop_in.name}.sh " + " ".join(given))
        assert f"usage: {drop_in.name}.sh [options] " in done.stdout
        assert "<data> <in-decode-dir> <out-decode-dir>" in done.stdout


@every
def test_kaldis_options_have_kaldis_defaults(shell, drop_in, kaldi):
    """What a recipe passes to Kaldi's script can be passed here, and what it leaves out is the same.

    But for the runner, which is looked for, and for what a model.pt says itself.
    """
    text = Path(os.environ["KALDI_ROOT"], drop_in.kaldi).read_text(encoding="utf-8")
    section = re.split(r"^# End configuration section", text, flags=re.MULTILINE)[0]
    theirs = dict(re.findall(r"^([A-Za-z_]+)=([^\s#]*)", section, re.MULTILINE))
    ours = dict(re.findall(r"^  --([\w-]+) .*\[(.*)\]$", shell(drop_in.script, "--help").stdout, re.MULTILINE))
    assert set(theirs) <= {name.replace("-", "_") for name in ours}
    own = {"cmd", "model_type", "embedding_dim", "hidden_dim", "nlayers", "epsilon", "oov_symbol"}
    assert {name: ours[name.replace("_", "-")] for name in theirs if name not in own} == {
        name: default for name, default in theirs.items() if name not in own
    }


@every
def test_options_are_documented(drop_in):
    """Each is in docs/kaldi.md, and so is the script."""
    page = (ROOT / "docs" / "kaldi.md").read_text(encoding="utf-8")
    assert f"{drop_in.name}.sh" in page
    assert len(drop_in.options()) > 10
    assert [option for option in drop_in.options() if f"`--{option}`" not in page] == []


@every
def test_all_missing_inputs_are_named_at_once(shell, tmp_path, drop_in):
    """On stderr and on stdout, status 1, and nothing is made."""
    done = shell(drop_in.script, *drop_in.words(lang="lang", lm="lm", vocab="vocab", source="in", out="out"))
    assert done.returncode == 1
    names = ["lang/words.txt", "lm", "in/num_jobs", "lang/G.fst (or G.carpa)"]
    if "vocab" in drop_in.arguments:
        names.insert(2, "vocab")
    for stream in (done.stdout, done.stderr):
        assert f"missing {len(names)} input(s): {' '.join(names)}\n" in stream
    assert list(tmp_path.iterdir()) == []


@typical
@pytest.mark.parametrize("weight", ["1.5", "half", "-0.1", "", "."])
def test_a_weight_is_a_number_from_0_to_1(ask, recipe, drop_in, weight):
    """Status 1, and nothing is run; Kaldi's pytorchnn scripts take any."""
    done, calls = ask(drop_in.script, *with_weight(drop_in, weight))
    assert done.returncode == 1
    assert "number from 0 to 1" in done.stderr
    assert calls.all() == []
    assert not (recipe / OUT).exists()


@pytest.mark.parametrize("weight", ["0", "1", "0.45", ".5", "1.", "5e-1"])
def test_spellings_of_a_weight(ask, weight):
    """Whatever way a number is written that lies in the range."""
    done, calls = ask(PRUNED.script, *with_weight(PRUNED, weight))
    assert done.returncode == 0, done.stderr
    assert {value(words, "--weight") for words in calls.of("rescore lattice")} == {weight}


@typical
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"out": SOURCE}, "output directory is the input directory"),
        ({"out": "exp/chain/../chain/tdnn/decode_dev_tg/"}, "output directory is the input directory"),
        ({"out": "exp/decode_linked"}, "are one file"),
        ({"out": "exp/decode_JOB"}, "JOB"),
    ],
)
def test_the_input_is_never_written(ask, recipe, drop_in, changed, message):
    """An output that is the input, by any name or link, is refused before anything runs."""
    (recipe / "exp/decode_linked").mkdir()
    (recipe / "exp/decode_linked/lat.2.gz").symlink_to(recipe / SOURCE / "lat.2.gz")
    before = (recipe / SOURCE / "lat.1.gz").read_bytes()
    done, calls = ask(drop_in.script, *drop_in.words(**changed))
    assert done.returncode == 1
    assert message in done.stderr
    assert calls.all() == []
    assert (recipe / SOURCE / "lat.1.gz").read_bytes() == before


@typical
@pytest.mark.parametrize(
    ("num_jobs", "message"),
    [("1", "says 1, but there is exp/chain/tdnn/decode_dev_tg/lat.2.gz"), ("3", "decode_dev_tg/lat.3.gz"),
     ("two", "no positive number but 'two'"), ("0", "no positive number"), (None, "decode_dev_tg/num_jobs")],
)  # fmt: skip
def test_num_jobs_and_archives_agree(ask, recipe, drop_in, num_jobs, message):
    """Neither is an archive left out that is there, nor one expected that is not."""
    (recipe / SOURCE / "num_jobs").unlink()
    if num_jobs is not None:
        (recipe / SOURCE / "num_jobs").write_text(f"{num_jobs}\n")
    done, calls = ask(drop_in.script, *drop_in.words())
    assert done.returncode == 1
    assert message in done.stderr
    assert calls.all() == []


@every
def test_each_job_is_one_call_of_mpq(ask, recipe, drop_in):
    """Directories, old LM and job; num_jobs, Kaldi's log, nothing of an earlier run; the end is said by .done."""
    (recipe / OUT).mkdir()
    (recipe / OUT / "lat.7.gz").touch()
    done, calls = ask(drop_in.script, *drop_in.words())
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = calls.of(drop_in.verb)
    assert [value(words, "--job") for words in jobs] == ["1", "2"]
    assert all(words[-2:] == [SOURCE, OUT] for words in jobs)
    assert all(value(words, "--lm") == "exp/lm" and value(words, "--old-lm") == "fst" for words in jobs)
    assert calls.of("lm import") == []
    assert sorted(path.name for path in (recipe / OUT).glob("lat.*")) == ["lat.1.gz", "lat.2.gz"]
    assert (recipe / OUT / "num_jobs").read_text() == "2\n"
    log = "rescore_nbest" if drop_in.verb == "rescore nbest" else "rescorelm"
    assert "# Ended (code 0)" in (recipe / OUT / "log" / f"{log}.2.log").read_text()
    assert "2 15 utterances in, 15 out" in done.stdout  # twice
    assert "WARNING utterance u goes through unchanged" in done.stdout
    assert (recipe / OUT / ".done").exists()


@every
def test_every_call_is_one_that_mpq_takes(ask, recipe, monkeypatch, drop_in):
    """Its parser knows the options and takes their defaults."""
    if drop_in.verb not in COMMANDS:
        pytest.skip(f"no mpq {drop_in.verb} yet")
    done, calls = ask(drop_in.script, *drop_in.words())
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(recipe)
    settings = COMMANDS[drop_in.verb].settings_class()
    for words in calls.of(drop_in.verb):
        built = build(settings, parse(settings, words))
        assert built.old_lm == "fst"


@pytest.mark.parametrize(
    ("drop_in", "options", "expected"),
    [
        (PRUNED, [], "--normalize true --max-ngram-order 4 --text false --acwt 0.1"),
        (PRUNED, [], "--lattice-prune-beam 8 --max-arcs 100000"),
        (
            PRUNED,
            ["--max-arcs", "20", "--acwt=1.0", "--lattice_prune_beam", "6", "--max-ngram-order", "0", "--text", "true"],
            "--max-ngram-order 0 --text true --acwt 1.0 --lattice-prune-beam 6 --max-arcs 20",
        ),
        (EXACT, ["--max-ngram-order", "3"], "--max-ngram-order 3 --text false --exact true"),
        (BACK, [], "--max-ngram-order 4 --text false --check-old-lm false --backward true --exact true"),
        (PRUNED, ["--rescore-opts", "--rho 0.5 --frontier 2"], "--max-arcs 100000 --rho 0.5 --frontier 2 --job"),
        (BACK, ["--exact", "false"], "--backward true --exact false"),
        (LATTICE_PT, [], "--acwt 0.1 --lattice-prune-beam 5 --max-arcs 100000"),
        (LATTICE_PT, ["--inv-acwt", "12", "--beam", "7"], "--acwt 0.0833333333 --lattice-prune-beam 7"),
        (LATTICE_PT, [], "--weight 0.8 --old-lang data/lang_tg --old-lm fst --threads 1 --device auto"),
        (NBEST, ["--N", "20", "--use-phi", "true"], "--n 20 --inv-acwt 10 --use-phi true --test false --keep-ali true"),
        (NBEST_PT, ["--strict", "true"], "--strict true --n 10 --inv-acwt 10 --use-phi false --test false"),
        (NBEST_PT, ["--threads", "3"], "--threads 3 --device auto --batch-tokens 8192 --strict false"),
    ],
)
def test_options_reach_the_verb(ask, drop_in, options, expected):
    """With Kaldi's values where nothing is said."""
    done, calls = ask(drop_in.script, *options, *drop_in.words())
    assert done.returncode == 0, done.stderr
    for words in calls.of(drop_in.verb):
        assert expected in " ".join(words)


@every
def test_which_old_lm_is_taken_where_there_are_two(ask, recipe, drop_in):
    """What Kaldi's script of the name takes, and that is said loudly."""
    (recipe / "data/lang_tg/G.carpa").touch()
    done, calls = ask(drop_in.script, *drop_in.words())
    assert {value(words, "--old-lm") for words in calls.of(drop_in.verb)} == {drop_in.prefers}
    for stream in (done.stdout, done.stderr):
        assert "WARNING: there is a G." in stream


@typical
@pytest.mark.parametrize("old_lm", ["fst", "carpa", "data/lang_tg/x.arpa"])
def test_the_old_lm_can_be_said(ask, recipe, drop_in, old_lm):
    """Then it is taken without a word, if it is there."""
    (recipe / "data/lang_tg/G.carpa").touch()
    (recipe / "data/lang_tg/x.arpa").touch()
    done, calls = ask(drop_in.script, "--old-lm", old_lm, *drop_in.words())
    assert {value(words, "--old-lm") for words in calls.of(drop_in.verb)} == {old_lm}
    assert "WARNING" not in done.stderr
    path = recipe / (f"data/lang_tg/G.{old_lm}" if old_lm in ("fst", "carpa") else old_lm)
    path.unlink()
    assert f"missing 1 input(s): {path.relative_to(recipe)}" in ask(
        drop_in.script, "--old-lm", old_lm, *drop_in.words()
    )[0].stderr


@every
def test_a_job_that_fails_fails_the_script_and_shows_why(ask, recipe, drop_in):
    """Status 1, the error lines of its log, the pattern of the logs; no archive and no .done of an earlier run."""
    assert ask(drop_in.script, *drop_in.words())[0].returncode == 0
    done, _ = ask(drop_in.script, *drop_in.words(), FAILS=drop_in.verb)
    assert done.returncode == 1
    assert "ERROR (mpq) too bad" in done.stderr
    assert "LOG (mpq) begin" not in done.stderr
    for stream in (done.stdout, done.stderr):
        assert re.search(r"rescoring failed, see exp/chain/tdnn/decode_dev_tg_new/log/\w+\.\*\.log", stream)
    assert sorted(path.name for path in (recipe / OUT).iterdir()) == ["log", "num_jobs"]


def test_the_runner_given_is_called_as_kaldi_calls_it(ask, recipe):
    """--cmd gets its own options, JOB=1:nj, the log and the command, with all a job needs on another machine."""
    runner = recipe / "runner.sh"
    runner.write_text('#!/bin/sh\necho "$@" > called\nexit 3\n')
    runner.chmod(0o755)
    assert ask(PRUNED.script, "--cmd", f"{runner} --mem 4G", *PRUNED.words())[0].returncode == 1
    called = (recipe / "called").read_text()
    assert called.startswith(f"--mem 4G JOB=1:2 {OUT}/log/rescorelm.JOB.log env PYTHONPATH={ROOT}")
    assert "rescore lattice --lm exp/lm --weight 0.5 --old-lang data/lang_tg --old-lm fst" in called
    assert f"--job JOB {SOURCE} {OUT} && " in called


def test_a_runner_that_cannot_run_is_passed_over(ask, recipe):
    """utils/run.pl of a checkout without symbolic links is a small text file."""
    (recipe / "utils").mkdir()
    (recipe / "utils/run.pl").write_text("parallel/run.pl")
    done, _ = ask(PRUNED.script, "--cmd", "utils/run.pl --mem 4G", *PRUNED.words())
    assert done.returncode == 0, done.stderr
    assert "no utils/run.pl: running the jobs here" in done.stderr


@typical
@pytest.mark.parametrize(
    ("score", "options", "status"),
    [("exit 0", [], 0), ("exit 1", [], 1), ("exit 1", ["--skip-scoring", "true"], 0),
     (None, [], 0), (None, ["--require-scoring", "true"], 1)],
)  # fmt: skip
def test_scoring_decides_the_status(ask, recipe, drop_in, score, options, status):
    """A scorer that fails fails the script; none at all is a warning, or an error if required."""
    if score:
        (recipe / "local").mkdir()
        (recipe / "local/score.sh").write_text(f'#!/bin/sh\necho "$@" > scored\n{score}\n')
        (recipe / "local/score.sh").chmod(0o755)
    done, calls = ask(drop_in.script, "--stage", drop_in.last_stage, "--cmd", "true", *options, *drop_in.words())
    assert done.returncode == status, done.stdout + done.stderr
    assert calls.all() == []
    if score and not options:
        assert (recipe / "scored").read_text() == f"--cmd true data/dev data/lang_tg {OUT}\n"
    if score is None:
        assert "local/score.sh" in done.stderr


def test_a_data_directory_is_needed_for_scoring_only(ask, recipe):
    """As in Kaldi nothing else reads it; but its absence is noticed before the work, not after."""
    (recipe / "local").mkdir()
    (recipe / "local/score.sh").write_text("#!/bin/sh\n")
    (recipe / "local/score.sh").chmod(0o755)
    done, calls = ask(PRUNED.script, *PRUNED.words(data="data/none"))
    assert (done.returncode, calls.all()) == (1, [])
    assert "missing 1 input(s): data/none" in done.stderr
    assert ask(PRUNED.script, "--skip-scoring", "true", *PRUNED.words(data="data/none"))[0].returncode == 0


@pytest.mark.parametrize("inv_acwt", ["0", "-10", "ten"])
def test_an_inverse_of_nothing_is_refused(ask, inv_acwt):
    """--inv-acwt of the PyTorch lattice script is a positive number."""
    done, calls = ask(LATTICE_PT.script, "--inv-acwt", inv_acwt, *LATTICE_PT.words())
    assert (done.returncode, calls.all()) == (1, [])
    assert f"--inv-acwt is a number above 0, not '{inv_acwt}'" in done.stderr
