# SPDX-License-Identifier: Apache-2.0
"""local/pipeline.sh and the recipes' run.sh: what they call, what they check, what they do not do twice."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kaldi_mpq.cli.commands import COMMANDS
from kaldi_mpq.cli.main import parse
from kaldi_mpq.settings import build
from tests.conftest import ROOT

RECIPES = sorted(ROOT.glob("recipes/*/run.sh"))

# Stands for Python: notes each call of mpq, and leaves the files behind that the verb would leave.
FAKE_PYTHON = r"""#!/usr/bin/env bash
set -euo pipefail
case "$1 $#" in
  -m*) ;;
  */lattice_keys.py\ 3) exit ;;
  */ngram_ppl.py*) touch "$4"; exit ;;
  *) exec REAL_PYTHON "$@" ;;
esac
shift 2
printf -v call '%q ' "$@"
echo "$call" >> "$CALLS"  # in one write: jobs run side by side
out=${!#}
case "$1 ${2:-}" in
  "text "*) mkdir -p "$out"; touch "$out/stats.json" ;;
  "lm ngram") mkdir -p "$(dirname "$out")"; touch "$out" ;;
  "lm train" | "fit "*) mkdir -p "$out"; cd "$out"
    touch config.json model.safetensors quant.safetensors words.txt ppl.json ;;
  "pack "*) touch "$out" "$(dirname "$out")/size.json" ;;
  rescore*) cp "${@: -2:1}/lat.$(sed 's/.*--job \([0-9]*\).*/\1/' <<< "$*").gz" "$out/" ;;
  "score wer") mkdir -p "$out"; touch "$out/wer.json" ;;
  "search "*) mkdir -p "$out"; touch "$out/precision.json" ;;
  "score table") echo "the table" ;;
esac
"""


@pytest.fixture
def recipe(tmp_path, sample, shell):
    """Run AMI's run.sh on a copy of the sample with a Python that notes what it is asked: (result, calls)."""
    shutil.copytree(sample, tmp_path / "kaldi")
    fake = tmp_path / "python"
    fake.write_text(FAKE_PYTHON.replace("REAL_PYTHON", sys.executable))
    fake.chmod(0o755)
    (tmp_path / "conf" / "fit").mkdir(parents=True)
    for name in ("ste_tiny", "ste_1a"):
        (tmp_path / "conf" / "fit" / f"{name}.yaml").write_text("method: ste\n")

    def run(*words: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        calls = tmp_path / "calls"
        calls.write_text("")
        options = ["--kaldi-dir", "kaldi", "--recipe-dir", ".", "--out", "out"]
        done = shell("recipes/ami/run.sh", *options, *words, MPQ_PYTHON=str(fake), CALLS=str(calls))
        return done, [shlex.split(line) for line in calls.read_text().splitlines()]

    return run


def test_every_call_is_one_that_mpq_takes(recipe, tmp_path, monkeypatch):
    """All stages: each command has options that its verb has, with values it takes; stdout is the table alone."""
    done, calls = recipe("--bits", "8 2", "--N", "7", "--weight", "0.25")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the table\n"
    monkeypatch.chdir(tmp_path / "out")
    verbs = []
    for words in calls:
        verb = next(name for name in COMMANDS if words[: len(name.split())] == name.split())
        settings_class = COMMANDS[verb].settings_class()
        values = parse(settings_class, words[len(verb.split()) :])
        build(settings_class, values)
        verbs.append(verb)
    jobs = 2 * 2 * 6  # sets, jobs, systems: two LMs in float and at two widths
    rescored = {"rescore nbest": 2 * jobs, "rescore lattice": jobs}  # 20 best and N best; lattices
    once = dict.fromkeys(("text", "lm ngram", "score table"), 1)
    counts = {**once, "lm train": 2, "fit": 4, "pack": 4, "score wer": 1 + 6 * 3, **rescored}
    assert {verb: verbs.count(verb) for verb in counts} == counts


def test_a_ratio_is_a_search_and_a_fit_at_what_it_found(recipe):
    """--bits "4 x16": a search, whose widths the fit takes; a row of its own; another search goes elsewhere."""
    words = ["--lms", "lstm_1a", "--rescore", "nbest", "--bits", "4 x16"]
    done, calls = recipe(*words)
    assert done.returncode == 0, done.stderr
    (search,) = [call for call in calls if call[0] == "search"]
    assert search[search.index("--ratio") + 1] == "16"
    uniform, mixed = [call for call in calls if call[0] == "fit"]
    assert uniform[uniform.index("--bits") + 1] == "4"
    assert mixed[mixed.index("--precision") + 1] == f"{search[-1]}/precision.json"
    assert any(row.startswith("lstm_1a 1/16=exp/lstm_1a_ste_1a_kl_1a_x16,") for row in calls[-1])
    verbs = [call[0] for call in recipe(*words, "--search", "hessian_1a", "--stop-stage", "4")[1]]
    assert verbs == ["search", "fit"]


@pytest.mark.parametrize("bits", ["3", "4 y16", "x", "x0"])
def test_a_width_that_there_is_not_is_refused(recipe, bits):
    """Before anything runs."""
    done, calls = recipe("--bits", bits)
    assert (done.returncode, calls) == (1, [])
    assert "--bits is a list" in done.stderr


def test_the_time_of_each_stage_is_printed(recipe):
    """One line for every stage that ran."""
    done, _ = recipe("--lms", "lstm_1a", "--bits", "", "--stage", "1", "--stop-stage", "3")
    assert re.findall(r"stage (\d) took \d+ s", done.stderr) == ["1", "2", "3"]


def test_the_second_call_does_nothing_again(recipe):
    """A stage whose outputs are there and newer than its inputs is skipped."""
    assert recipe("--lms", "lstm_1a", "--bits", "4")[0].returncode == 0
    done, calls = recipe("--lms", "lstm_1a", "--bits", "4")
    assert done.returncode == 0
    assert [words[:2] for words in calls] == [["score", "table"]]


def test_what_is_older_than_its_source_is_made_again(recipe, tmp_path):
    """A model that was trained again is rescored and scored again, nothing else."""
    words = ["--lms", "lstm_1a", "--bits", "4", "--rescore", "nbest"]
    assert recipe(*words)[0].returncode == 0
    later = (tmp_path / "out" / "data" / "lm" / "stats.json").stat().st_mtime + 3600
    os.utime(tmp_path / "out" / "exp" / "lstm_1a_ste_1a_4bit" / "model.mpq", (later, later))
    calls = recipe(*words)[1]
    rescored = [words for words in calls if words[:2] == ["rescore", "nbest"]]
    assert len(rescored) == 4
    assert all("lstm_1a_ste_1a_4bit/model.mpq" in " ".join(words) for words in rescored)
    assert {words[0] for words in calls} == {"rescore", "score"}


def test_other_settings_are_other_directories(recipe, tmp_path):
    """Two weights, two N and two methods leave their lattices side by side."""
    nbest = ["--rescore", "nbest"]
    changes = [["--weight", "0.5"], ["--weight", "0.3"], ["--N", "9"]]
    for words in [*([*nbest, *change] for change in changes), ["--rescore", "lattice"]]:
        assert recipe("--lms", "lstm_1a", "--bits", "", *words)[0].returncode == 0
    names = {path.name for path in (tmp_path / "out" / "exp" / "rescored").glob("decode_dev_*")}
    settings = {"n100_w0.5", "n100_w0.3", "n9_w0.5", "lattice_w0.5"}
    assert names == {f"decode_dev_lstm_1a_{setting}" for setting in settings}


def test_methods_stand_side_by_side_in_the_table(recipe):
    """--rescore is a list; each method has its decode directories, its score, and a row of its own that names it."""
    done, calls = recipe("--lms", "lstm_1a", "--bits", "4", "--N", "7")
    assert done.returncode == 0, done.stderr
    nbest = [words for words in calls if words[:2] == ["rescore", "nbest"]]
    lattice = [words for words in calls if words[:2] == ["rescore", "lattice"]]
    assert (len(nbest), len(lattice)) == (2 * 2 * 2 * 2, 2 * 2 * 2)  # methods, systems, sets, jobs
    assert sorted({words[words.index("--n") + 1] for words in nbest}) == ["20", "7"]
    for words in lattice:  # both methods take the same LM out
        assert words[words.index("--old-lm") + 1] == nbest[0][nbest[0].index("--old-lm") + 1]
        assert words[words.index("--weight") + 1] == "0.5"
    rows = [row.partition("=")[::2] for row in calls[-1] if "=exp/" in row]
    names = [f"lstm_1a{width} {method}" for width in ("", " 4 bit") for method in ("20-best", "7-best", "lattice")]
    assert [name for name, _ in rows] == ["3-gram first pass", *names]
    scored = [words[-1] for words in calls if words[:2] == ["score", "wer"]]
    assert [paths.split(",")[1] for _, paths in rows] == scored
    assert len(set(scored)) == 7
    tested = [word for before, word in zip(calls[-1], calls[-1][1:]) if before == "--reference"]
    assert tested == ["3-gram first pass", "lstm_1a lattice"]  # p against the first pass, and against the float LM


def test_lattices_with_longer_histories(recipe):
    """lattice6 merges histories as 6-grams do, and has directories and a row of its own."""
    done, calls = recipe("--lms", "lstm_1a", "--bits", "", "--rescore", "lattice lattice6")
    assert done.returncode == 0, done.stderr
    lattice = [words for words in calls if words[:2] == ["rescore", "lattice"]]
    orders = {words[-1].rpartition("_1a_")[2]: words[words.index("--max-ngram-order") + 1] for words in lattice}
    assert orders == {"lattice_w0.5": "4", "lattice6_w0.5": "6"}
    rows = [row.partition("=")[0] for row in calls[-1] if "=exp/" in row]
    assert rows == ["3-gram first pass", "lstm_1a lattice", "lstm_1a 6-gram lattice"]


@pytest.mark.parametrize("method", ["lattices", "nbest0", "20", "lattice0"])
def test_a_method_that_there_is_not_is_refused(recipe, method):
    """Before anything runs."""
    done, calls = recipe("--rescore", f"nbest {method}")
    assert (done.returncode, calls) == (1, [])
    assert "--rescore is a list" in done.stderr


def test_stages_can_be_run_alone(recipe):
    """--stage and --stop-stage: only what lies between; nothing set in one stage is needed by another."""
    words = ["--lms", "lstm_1a", "--bits", "4"]
    verbs = []
    for stage in range(8):
        done, calls = recipe(*words, "--stage", str(stage), "--stop-stage", str(stage))
        assert done.returncode == 0, done.stderr
        verbs.append(sorted({" ".join(call[:2]) if " ".join(call[:2]) in COMMANDS else call[0] for call in calls}))
    assert verbs == [
        [],
        ["text"],
        ["lm ngram"],
        ["lm train"],
        ["fit"],
        ["pack"],
        ["rescore lattice", "rescore nbest"],
        ["score table", "score wer"],
    ]


def test_all_missing_inputs_are_named_and_nothing_is_written(recipe, tmp_path):
    """Text, words, a lattice, a configuration: told together, status 1."""
    for name in ("data/train/text", "data/lang_tg/words.txt", "exp/chain/tdnn/decode_eval_tg/lat.1.gz"):
        (tmp_path / "kaldi" / name).unlink()
    done, calls = recipe("--lms", "lstm_9z")
    assert done.returncode == 1
    assert "missing 4 input(s):" in done.stderr
    for name in ("train/text", "lang_tg/words.txt", "decode_eval_tg/lat.1.gz", "conf/lm/lstm_9z.yaml"):
        assert name in done.stderr
    assert calls == []
    assert list((tmp_path / "out").iterdir()) == []


def test_the_kaldi_directory_is_only_read(recipe, tmp_path):
    """Nothing is added to or changed in the directory that --kaldi-dir names."""

    def state() -> dict[str, float]:
        return {str(path): path.stat().st_mtime for path in (tmp_path / "kaldi").rglob("*")}

    before = state()
    assert recipe("--quick", "true", "--bits", "4")[0].returncode == 0
    assert state() == before


def test_quick_takes_a_part_of_everything(recipe, tmp_path):
    """One job of each set with its references, the first utterances of the text."""
    assert recipe("--quick", "true", "--bits", "4", "--stop-stage", "1")[0].returncode == 0
    out = tmp_path / "out"
    assert len((out / "data" / "train_1000" / "text").read_text().splitlines()) == 1000
    assert (out / "exp" / "subset_1" / "decode_dev" / "num_jobs").read_text() == "1\n"
    keys = (out / "exp" / "subset_1" / "decode_dev" / "keys").read_text().split()
    for table in ("text", "utt2spk", "segments"):
        lines = (out / "data" / "subset_1" / "dev" / table).read_text().splitlines()
        assert [line.split()[0] for line in lines] == keys


def test_results_of_a_quick_run_are_not_written(recipe):
    """They mean nothing."""
    done, _ = recipe("--quick", "true", "--write-results", "true")
    assert done.returncode == 1
    assert "not worth writing" in done.stderr


def test_a_link_that_became_a_file_is_followed(recipe, tmp_path):
    """A checkout without symbolic links has the target's name in the file; the training text is what it names."""
    text = tmp_path / "kaldi" / "data" / "train" / "text"
    text.rename(tmp_path / "kaldi" / "elsewhere.txt")
    text.write_text("../../elsewhere.txt")
    calls = recipe("--stop-stage", "1")[1]
    (words,) = calls
    assert Path(words[words.index("--train") + 1]).resolve() == (tmp_path / "kaldi" / "elsewhere.txt").resolve()


def test_an_stm_is_made_where_there_is_none(recipe, tmp_path, sample):
    """It has the lines of the sample's own, which the recipe's tools made, but for their labels."""
    (tmp_path / "kaldi" / "data" / "dev" / "stm").unlink()
    assert recipe("--score-mode", "stm", "--stop-stage", "0")[0].returncode == 0
    theirs = [line for line in (sample / "data/dev/stm").read_text().splitlines() if not line.startswith(";;")]
    made = (tmp_path / "out" / "data" / "with_stm" / "dev" / "stm").read_text().splitlines()
    assert made == [re.sub(r"<O,[FM]> ", "", line) for line in theirs]


@pytest.mark.parametrize("words", [["--stgae", "1"], ["extra"], ["--quick", "yes"], ["--kaldi-dir", "nowhere"]])
def test_a_wrong_call_is_refused(recipe, words):
    """Status 1 and a reason, before anything runs."""
    done, calls = recipe(*words)
    assert done.returncode == 1
    assert done.stderr
    assert calls == []


@pytest.mark.parametrize("script", RECIPES, ids=lambda path: path.parent.name)
def test_help_shows_the_settings_of_the_recipe(script, shell):
    """`run.sh --help` lists every option with this recipe's value."""
    done = shell(script.relative_to(ROOT), "--help")
    assert done.returncode == 0
    settings = re.findall(r'^  --([a-z-]+) "?([^"\n$]+)"?$', script.read_text(), re.MULTILINE)
    assert len(settings) >= 4
    for name, value in settings:
        assert re.search(rf"^  --{name} .*\[{re.escape(value)}\]$", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize("script", RECIPES, ids=lambda path: path.parent.name)
def test_run_sh_is_settings_and_one_call(script):
    """No stage of its own, no default that skips one."""
    text = script.read_text()
    assert "--stage" not in re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    assert text.count("pipeline.sh") == 1
    assert not re.search(r"\bmpq\b|\bif\b|\bfor\b", re.sub(r"^#.*$", "", text, flags=re.MULTILINE))


def test_stages_are_short():
    """At most 15 lines each."""
    text = (ROOT / "local" / "pipeline.sh").read_text()
    stages = re.findall(r"^if in_stage (\d) .*?\n(.*?)^fi$", text, re.DOTALL | re.MULTILINE)
    assert [number for number, _ in stages] == list("01234567")
    assert max(body.count("\n") for _, body in stages) <= 15
