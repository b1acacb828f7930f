# SPDX-License-Identifier: Apache-2.0
"""The command line: Kaldi's option grammar, exit codes, help, and what a mere --help loads."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaldi_mpq.cli.commands import COMMANDS, Command
from kaldi_mpq.cli.main import main, parse
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import build
from tests.cli.fake_verb import FakeSettings, ManySettings


@pytest.fixture
def fake(monkeypatch):
    """The verb ``fake`` among the commands."""
    monkeypatch.setitem(COMMANDS, "fake", Command("tests.cli.fake_verb:FakeSettings", "tests.cli.fake_verb:run"))


def settings_of(*words: str) -> FakeSettings:
    """Return what the words mean."""
    return build(FakeSettings, parse(FakeSettings, words))


def test_both_spellings_of_an_option_mean_the_same():
    """--old-lm X, --old_lm X, --old-lm=X and --old_lm=X are one option."""
    spellings = [["--old-lm", "fst"], ["--old_lm", "fst"], ["--old-lm=fst"], ["--old_lm=fst"]]
    assert {settings_of(*words, "dir") for words in spellings} == {FakeSettings(out=Path("dir"), old_lm="fst")}


def test_a_reader_that_leaves_is_no_failure_to_report():
    """``mpq ... | head`` ends with the status of a closed pipe and without a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "kaldi_mpq.cli", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_options_may_stand_behind_arguments():
    """The order of options and arguments does not matter."""
    assert settings_of("dir", "--rate", "2") == settings_of("--rate", "2", "dir") == FakeSettings(Path("dir"), 2.0)


def test_a_value_may_hold_an_equals_sign():
    """Only the first = separates name and value."""
    assert settings_of("dir", "--test=eval=a/text", "--test", "dev=b").test == ("eval=a/text", "dev=b")


@pytest.mark.parametrize("word", ["yes", "1", "", "True "])
def test_a_boolean_is_one_of_two_words(word):
    """Anything but true and false is refused, as Kaldi does."""
    with pytest.raises(ConfigError, match="true or false"):
        settings_of("dir", "--strict", word)


def test_an_unknown_option_names_the_nearest():
    """A typing mistake is answered with the option that was meant."""
    with pytest.raises(ConfigError, match=r"--rat.*did you mean 'rate'"):
        settings_of("dir", "--rat", "1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dir", "--rate"], "no value"),
        (["dir", "--rate", "fast"], "rate"),
        (["dir", "other"], "too many"),
        (["--rate", "1"], "missing"),
        (["dir", "--mode", "odd"], "good"),
        (["dir", "--out", "x"], "unknown option"),
    ],
)
def test_a_wrong_line_is_refused(words, message):
    """Every way of getting a line wrong is an error that says which."""
    with pytest.raises(ConfigError, match=message):
        settings_of(*words)


@pytest.mark.parametrize("first", [True, False])
def test_the_command_line_wins_over_the_config(tmp_path, first):
    """Explicit options override --config wherever it stands."""
    (tmp_path / "x.yaml").write_text("rate: 7\nstrict: true\n")
    config, option = ["--config", str(tmp_path / "x.yaml")], ["--rate", "9"]
    found = settings_of("dir", *(config + option if first else option + config))
    assert (found.rate, found.strict) == (9.0, True)


def test_an_unknown_key_of_a_config_is_refused(tmp_path):
    """A typing mistake in a YAML file is no new setting."""
    (tmp_path / "x.yaml").write_text("rat: 7\n")
    with pytest.raises(ConfigError, match="rate"):
        settings_of("dir", "--config", str(tmp_path / "x.yaml"))


def test_the_last_positional_may_take_all_that_are_left():
    """A tuple in last place is as long as the line."""
    assert build(ManySettings, parse(ManySettings, ["a", "b=1", "c=2,3"])) == ManySettings("a", ("b=1", "c=2,3"))


def test_result_on_stdout_log_on_stderr(fake, capsys):
    """The result alone is on stdout, and the status is 0."""
    assert main(["fake", "dir"]) == 0
    printed = capsys.readouterr()
    assert printed.out == repr(FakeSettings(Path("dir"))) + "\n"
    assert printed.err == ""


def test_bad_input_is_one_line_and_status_2(fake, capsys):
    """An MpqError shows what, where, expected, found and what to try, and nothing on stdout."""
    assert main(["fake", "dir", "--mode", "bad"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "ERROR (mpq) file:3: bad input, expected a, found b; try a\n"


def test_ctrl_c_has_its_status(fake, capsys):
    """An interruption is no traceback, and its status is the shell's."""
    assert main(["fake", "dir", "--mode", "interrupted"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(("line", "hint"), [("lm trian", "lm train"), ("scoer wer", "score wer"), ("txt", "text")])
def test_an_unknown_command_names_the_nearest(line, hint, capsys):
    """A mistyped verb is answered with the one that was meant."""
    assert main(line.split()) == 2
    assert hint in capsys.readouterr().err


def test_a_group_lists_its_verbs(capsys):
    """``mpq lm`` says what there is."""
    assert main(["lm"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS if name.startswith("lm "))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_every_option(name, capsys):
    """``mpq VERB --help`` names every setting of the verb with its explanation."""
    assert main([*name.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    for field in dataclasses.fields(COMMANDS[name].settings_class()):
        shown = field.name.upper() if field.metadata["positional"] else "--" + field.name.replace("_", "-")
        assert shown in printed
        assert field.metadata["help"] in printed


def test_help_loads_nothing_heavy():
    """No help, of mpq or of any verb, imports torch, k2 or numpy."""
    program = (
        "import sys, json; from kaldi_mpq.cli.main import main; from kaldi_mpq.cli.commands import COMMANDS\n"
        "codes = [main(['--help'])] + [main([*name.split(), '-h']) for name in COMMANDS]\n"
        "print(json.dumps([codes, [name for name in ('torch', 'k2', 'numpy') if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    codes, heavy = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0] * (len(COMMANDS) + 1)
    assert heavy == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_names_what_exists(name):
    """The table's functions are there, and take the settings."""
    module, _, function = COMMANDS[name].function.partition(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))
