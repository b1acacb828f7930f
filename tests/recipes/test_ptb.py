# SPDX-License-Identifier: Apache-2.0
"""recipes/ptb and recipes/ami/run_sweep.sh: what they call, on a made-up text of the shape of Penn Treebank's."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kaldi_mpq.cli.commands import COMMANDS
from kaldi_mpq.cli.main import parse
from kaldi_mpq.settings import build
from kaldi_mpq.text.corpus import Corpus
from kaldi_mpq.text.vocab import Vocabulary
from tests.conftest import ROOT

TEXT = {
    "train": " the <unk> of N rose \n no it was n't black monday \n but N rose \n",
    "valid": " the monday rose \n",
    "test": " it rose N <unk> \n but it was \n",
}

# Stands for Python: notes each call of mpq, leaves the files behind that the verb would leave; `text` runs.
FAKE_PYTHON = r"""#!/usr/bin/env bash
set -euo pipefail
case "$1" in
  -m) ;;
  */ngram_ppl.py) touch "$4"; exit ;;
  *) exec REAL_PYTHON "$@" ;;
esac
printf -v call '%q ' "${@:3}"
echo "$call" >> "$CALLS"
out=${!#}
case "$3 ${4:-}" in
  "text "*) exec REAL_PYTHON "$@" ;;
  "lm ngram") mkdir -p "$(dirname "$out")"; touch "$out" ;;
  "lm train") mkdir -p "$out"; touch "$out/ppl.json" ;;
  "sweep table") echo "the table" ;;
  sweep*) mkdir -p "$out"; touch "$out/sweep.json"; if [ -e "$(dirname "$CALLS")/fail" ]; then exit 2; fi ;;
esac
"""


@pytest.fixture
def fake(tmp_path):
    """Return a function that runs a recipe's script: (result, calls of mpq)."""
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON.replace("REAL_PYTHON", sys.executable))
    python.chmod(0o755)

    def run(shell, script: str, *words: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        calls = tmp_path / "calls"
        calls.write_text("")
        done = shell(script, *words, MPQ_PYTHON=str(python), CALLS=str(calls), PYTHONPATH=str(ROOT))
        return done, [shlex.split(line) for line in calls.read_text().splitlines()]

    return run


@pytest.fixture
def ptb(tmp_path, shell, fake):
    """Run the PTB recipe on the made-up text, into ``out``."""
    (tmp_path / "text").mkdir()
    for name, text in TEXT.items():
        (tmp_path / "text" / f"ptb.{name}.txt").write_text(text)
    return lambda *words: fake(shell, "recipes/ptb/run.sh", "--ptb-dir", "text", "--out", "out", *words)


def check_calls(calls: list[list[str]], folder: Path, monkeypatch) -> list[str]:
    """Return the verbs, each of which has options and values that it takes."""
    monkeypatch.chdir(folder)
    verbs = []
    for words in calls:
        verb = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        settings = COMMANDS[verb].settings_class()
        build(settings, parse(settings, words[len(verb.split()) :]))
        verbs.append(verb)
    return verbs


def test_all_stages(ptb, tmp_path, monkeypatch):
    """Text, n-gram, two LMs, a sweep of each, the table alone on stdout; a second call only trains no LM again."""
    done, calls = ptb()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the table\n"
    verbs = check_calls(calls, tmp_path / "out", monkeypatch)
    assert verbs == ["text", "lm ngram", "lm train", "lm train", "sweep", "sweep", "sweep table", "sweep table"]
    done, calls = ptb()
    assert done.returncode == 0
    assert [words[0] for words in calls] == ["sweep"] * 4  # which know what they have finished


def test_text_of_words_becomes_kaldi_text(ptb, tmp_path):
    """Every word of the training text has an id, <unk> is the unknown word, forty sentences are a conversation."""
    assert ptb("--stop-stage", "1", "--document", "2")[0].returncode == 0
    out = tmp_path / "out" / "data"
    assert (out / "train" / "text").read_text().splitlines() == [
        "ptb00000-000000 the <unk> of N rose",
        "ptb00000-000001 no it was n't black monday",
        "ptb00001-000002 but N rose",
    ]
    words = Vocabulary.read(out / "lm" / "words.txt", bos="<s>", eos="</s>", unk="<unk>")
    assert len(words) == len({*TEXT["train"].split()} | {"<eps>", "#0", "<s>", "</s>"})
    train, test = (Corpus.load(out / "lm" / f"{name}.ids") for name in ("train", "test"))
    assert train.lengths.tolist() == [5, 6, 3]
    assert train.conversation.tolist() == [0, 0, 1]
    ids = words.ids
    assert test.words.tolist() == [ids[word] for word in ("it", "rose", "N", "<unk>", "but", "it", "was")]


def test_missing_files_are_named_and_nothing_is_written(ptb, tmp_path):
    """All of them at once, an empty one too; status 1."""
    (tmp_path / "text" / "ptb.valid.txt").write_text("")
    (tmp_path / "text" / "ptb.test.txt").unlink()
    done, calls = ptb("--lms", "lstm_9z")
    assert (done.returncode, calls) == (1, [])
    for name in ("ptb.valid.txt", "ptb.test.txt", "conf/lm/lstm_9z.yaml"):
        assert name in done.stderr
    assert "ptb.train.txt" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("words", [["--ptb-dri", "x"], ["extra"], ["--ptb-dir", "nowhere"], ["--ptb-dir", ""]])
def test_a_wrong_call_is_refused(ptb, words):
    """Status 1 and a reason, before anything runs."""
    done, calls = ptb(*words)
    assert (done.returncode, calls) == (1, [])
    assert done.stderr


def test_a_failed_sweep_does_not_keep_the_table_back(ptb, tmp_path):
    """The other LM's cells are run, the table is printed by the same call of local/sweep.sh, and the status tells."""
    (tmp_path / "fail").touch()
    done, calls = ptb("--stop-stage", "4")
    assert done.returncode == 2
    verbs = [" ".join(words[:2]) if words[1] == "table" else words[0] for words in calls]
    assert verbs[-3:] == ["sweep", "sweep", "sweep table"]
    (tmp_path / "fail").unlink()
    done, calls = ptb("--stage", "5")
    assert (done.returncode, done.stdout) == (0, "the table\n")


def test_options_reach_the_sweep(ptb):
    """Seeds, cells, job runner, jobs at a time, device."""
    words = [
        "--seeds",
        "1,2",
        "--only",
        "kl*",
        "--cmd",
        "queue.pl --mem 4G",
        "--nj",
        "7",
        "--device",
        "cpu",
        "--lms",
        "lstm_1a",
    ]
    done, calls = ptb(*words)
    assert done.returncode == 0, done.stderr
    (sweep,) = [call for call in calls if call[0] == "sweep" and call[1] != "table"]
    for name, value in zip(words[::2], words[1::2]):
        assert name == "--lms" or sweep[sweep.index(name) + 1] == value


def test_ami_makes_its_lms_and_sweeps_over_them(tmp_path, shell, fake, sample, monkeypatch):
    """One command: run.sh up to the float LMs, a sweep of each, the table into the results file if asked for."""
    shutil.copytree(sample, tmp_path / "kaldi")
    (tmp_path / "RESULTS.md").write_text("<!-- sweep:start -->\n<!-- sweep:end -->\n")
    words = ["--kaldi-dir", "kaldi", "--out", "out", "--seeds", "1", "--results", "RESULTS.md", "--write-results=true"]
    done, calls = fake(shell, "recipes/ami/run_sweep.sh", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the table\n"
    verbs = check_calls(calls, tmp_path / "out", monkeypatch)
    assert verbs == ["text", "lm ngram", "lm train", "lm train", "sweep", "sweep", "sweep table"]
    assert next(call[-1] for call in calls if call[0] == "sweep") == "exp/sweep/lstm_small_1a_small_1a"
    assert calls[-1][calls[-1].index("--into") + 1] == "../RESULTS.md"
    done, calls = fake(shell, "recipes/ami/run_sweep.sh", "--out", "out")
    assert (done.returncode, calls) == (1, [])
