# SPDX-License-Identifier: Apache-2.0
"""local/parse_options.sh: Kaldi's option grammar, from the lines that declare the options."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT

SCRIPT = """#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Says what it was told.
#
# usage: say.sh [options] <a>

max_arcs=100  # a number
strict=false  # true or false
cmd=run.pl  # a runner
set -euo pipefail
local_name=kept
. PARSER
echo "max_arcs=$max_arcs strict=$strict cmd=$cmd local_name=$local_name rest=$*"
"""


@pytest.fixture
def say(tmp_path, shell):
    """A script with options; returns (status, stdout, stderr)."""
    script = tmp_path / "say.sh"
    script.write_text(SCRIPT.replace("PARSER", str(ROOT / "local" / "parse_options.sh")))

    def run(*words: str, **environment: str) -> tuple[int, str, str]:
        done = shell(script, *words, **environment)
        return done.returncode, done.stdout, done.stderr

    return run


def test_defaults_stand_where_nothing_is_said(say):
    """No options, no change."""
    assert say("x", "y") == (0, "max_arcs=100 strict=false cmd=run.pl local_name=kept rest=x y\n", "")


@pytest.mark.parametrize("words", [["--max-arcs", "7"], ["--max_arcs", "7"], ["--max-arcs=7"], ["--max_arcs=7"]])
def test_spellings_are_alike(say, words):
    """- and _, a space and =: one option."""
    assert say(*words, "x")[1] == "max_arcs=7 strict=false cmd=run.pl local_name=kept rest=x\n"


def test_values_are_taken_as_they_are(say):
    """Spaces, quotes and dollars in a value are not the shell's."""
    assert "cmd=queue.pl --mem '4G' $HOME =" in say("--cmd", "queue.pl --mem '4G' $HOME =", "x")[1]


def test_an_option_behind_an_argument_is_an_argument(say):
    """As in Kaldi, options come first."""
    assert say("x", "--max-arcs", "7")[1].endswith("rest=x --max-arcs 7\n")


@pytest.mark.parametrize("word", ["yes", "True", "1", ""])
def test_a_boolean_is_true_or_false(say, word):
    """Nothing else is."""
    status, out, err = say("--strict", word)
    assert (status, out) == (1, "")
    assert "--strict is true or false" in err


@pytest.mark.parametrize(("word", "hint"), [("--max-arc", "--max-arcs"), ("--stirct", "--strict"), ("--comd", "--cmd")])
def test_an_unknown_option_names_the_nearest(say, word, hint):
    """Status 1, and the option that was meant."""
    status, out, err = say(word, "1")
    assert (status, out) == (1, "")
    assert f"unknown option {word}; did you mean {hint}?" in err


@pytest.mark.parametrize("name", ["local-name", "home", "lang"])
def test_only_declared_variables_are_options(say, name):
    """Neither a script's other variables nor the environment's are, as they are by accident in Kaldi."""
    assert say(f"--{name}", "x", lang="C", home="x")[0] == 1


@pytest.mark.parametrize("words", [["--max-arcs"], ["--cmd", ""], ["--config"], ["--config", "absent.conf"]])
def test_an_option_without_a_value_is_refused(say, words):
    """A missing value, an empty runner, a missing file: status 1."""
    status, _, err = say(*words)
    assert status == 1
    assert err


@pytest.mark.parametrize("first", [True, False])
def test_the_command_line_wins_over_the_config(say, tmp_path, first):
    """--config is read before the other options, wherever it stands."""
    (tmp_path / "x.conf").write_text("max_arcs=5\nstrict=true\n")
    config, option = ["--config", "x.conf"], ["--max-arcs", "9"]
    assert say(*(config + option if first else option + config), "x")[1].startswith("max_arcs=9 strict=true")


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_the_header_and_the_options(say, word):
    """On stdout, status 0: the first comment, each option with its comment and its value of the moment."""
    status, out, err = say("--max-arcs", "7", word)
    assert (status, err) == (0, "")
    assert out.startswith("Says what it was told.\n")
    assert "usage: say.sh [options] <a>" in out
    assert "SPDX" not in out
    for line in ("--max-arcs               a number [7]", "--strict                 true or false [false]"):
        assert line in out


def test_two_dashes_end_the_options(say):
    """What stands behind -- is left for a second reading."""
    assert say("--max-arcs", "7", "--", "--max-arcs", "8")[1].endswith("rest=--max-arcs 8\n")
