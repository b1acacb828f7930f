# SPDX-License-Identifier: Apache-2.0
"""What the documentation says exists: commands, options, files; and every configuration is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kaldi_mpq.cli.commands import COMMANDS
from kaldi_mpq.cli.main import parse
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.lm.settings import TrainSettings
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.settings import build, read_yaml
from kaldi_mpq.sweep.plan import cells_of
from kaldi_mpq.sweep.settings import SweepSettings
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/*.md")])
CONFIGS = sorted(ROOT.glob("recipes/*/conf/*/*.yaml"))


def name_of(path: Path) -> str:
    """Return a path as the tests' ids show it."""
    return str(path.relative_to(ROOT))


def commands_in(text: str) -> list[list[str]]:
    """Return the words of every ``mpq ...`` command that stands on lines of its own."""
    joined = text.replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ").split(" # ")[0] for line in joined.splitlines()]
    return [shlex.split(line)[1:] for line in lines if re.match(r"mpq [a-z]", line)]


def check_command(words: list[str]) -> None:
    """Fail unless the words are a verb with settings that it accepts."""
    verb = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    settings = COMMANDS[verb].settings_class()
    values = parse(settings, [word for word in words[len(verb.split()) :] if word != "..."])
    assert values is not None or "--help" in words
    if values is not None and "..." not in words:
        build(settings, values)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_a_page_are_commands(page, monkeypatch):
    """Every `mpq` line of the documentation has a verb and options that there are, and values they take."""
    places = {"ami": "recipes/ami", "swbd": "recipes/ami", "ptb": "recipes/ptb"}
    monkeypatch.chdir(ROOT / places.get(page.parent.name, "."))
    for words in commands_in(page.read_text(encoding="utf-8")):
        check_command(words)


def test_the_readme_shows_the_whole_way():
    """From text to a score, each verb of the way is in the README."""
    shown = {words[0] for words in commands_in((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {"text", "lm", "fit", "pack", "rescore", "score"} <= shown


def test_a_wrong_command_would_be_found():
    """The check is no decoration: a renamed option fails it."""
    (words,) = commands_in("    mpq pack \\\n  --bitz 3 a b\n")
    with pytest.raises(Exception, match="bitz"):
        check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_of_a_page_exist(page):
    """Whoever is told to call `make x` finds x in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    told = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert told <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page):
    """Relative links are files."""
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_tree_of_the_readme_is_the_tree():
    """Each name of the README's list of files exists under the folder that it stands in."""
    block = re.search(r"## Files\n\n```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(
        1
    )
    parent, missing = "", []
    for line in block.splitlines():
        inner = line.startswith("  ")
        names = re.split(r" {2,}", line.strip())[0].split(" ")
        first = names[0]
        if not inner:
            parent = first
        for name in names:
            path = ROOT / (parent if inner else (first.split("/")[0] if name != first else "")) / name
            if not path.exists():
                missing.append(str(path))
    assert missing == []


def test_options_of_the_drop_in_are_documented():
    """Every option of local/lmrescore_nbest.sh is in docs/kaldi.md."""
    text = (ROOT / "local" / "lmrescore_nbest.sh").read_text(encoding="utf-8")
    options = [name.replace("_", "-") for name in re.findall(r"^([A-Za-z_]+)=.*  # \S", text, re.MULTILINE)]
    page = (ROOT / "docs" / "kaldi.md").read_text(encoding="utf-8")
    assert len(options) > 10
    assert [option for option in options if f"`--{option}`" not in page] == []


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_a_configuration_is_one(path, monkeypatch):
    """Every YAML file of the recipes has only settings that there are, with values that they take."""
    monkeypatch.chdir(path.parent.parent.parent)
    if path.parent.name == "lm":
        settings = build(TrainSettings, {**read_yaml(path), "out": "exp/lm"}, where=path)
        assert settings.model in path.stem
    elif path.parent.name == "search":
        settings = build(
            SearchSettings, {**read_yaml(path), "lm": "exp/lm", "out": "exp/search", "ratio": 16}, where=path
        )
        assert settings.method in path.stem
    elif path.parent.name == "sweep":
        assert cells_of(build(SweepSettings, {**read_yaml(path), "lm": "exp/lm", "out": "exp/sweep"}, where=path))
    else:
        settings = build(FitSettings, {**read_yaml(path), "lm": "exp/lm", "out": "exp/fit", "bits": 4}, where=path)
        assert settings.method in path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_a_configuration_opens_with_its_launch_line(path, monkeypatch):
    """The first line is the command that uses the file, and the command is right."""
    monkeypatch.chdir(path.parent.parent.parent)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    (words,) = commands_in(first.removeprefix("# "))
    assert words[words.index("--config") + 1] == str(path.relative_to(path.parent.parent.parent))
    check_command(words)
