# SPDX-License-Identifier: Apache-2.0
"""Artefacts: whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys

import pytest

from kaldi_mpq.artefact import read_json, require, sha256_of, stamp, write_json, writing
from kaldi_mpq.errors import MissingInputError, MpqError


def names_in(folder) -> set[str]:
    """Return what is in a folder, hidden files too."""
    return set(os.listdir(folder))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(tmp_path, error):
    """Neither a half file nor a temporary one is left."""
    with pytest.raises(error), writing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise error
    assert names_in(tmp_path) == set()


def test_an_error_keeps_what_was_there(tmp_path):
    """The file of the last good run survives a bad one."""
    (tmp_path / "x").write_text("old")
    with pytest.raises(ValueError), writing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert (tmp_path / "x").read_text() == "old"
    assert names_in(tmp_path) == {"x"}


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    """While it is being written there is nothing under its name."""
    with writing(tmp_path / "x") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x").read_text() == "whole"


def test_a_killed_process_leaves_no_file_under_the_name(tmp_path):
    """SIGKILL in the middle: what was there before is still there, whole."""
    (tmp_path / "x").write_text("old")
    program = (
        "import os, sys; from kaldi_mpq.artefact import writing\n"
        "with writing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "x")], check=False)
    assert done.returncode == -9
    assert (tmp_path / "x").read_text() == "old"


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path):
    """The error says so, and nothing is left; a limit on the size of files stands for the disk."""
    program = (
        "import resource, signal, sys\n"
        "from kaldi_mpq.artefact import write_json; from kaldi_mpq.errors import MpqError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_json(sys.argv[1], 'x' * 100000)\nexcept MpqError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x.json")], capture_output=True, text=True, check=True
    )
    assert "cannot write" in done.stdout
    assert str(tmp_path / "x.json") in done.stdout
    assert names_in(tmp_path) == set()


def test_permissions_are_those_of_any_new_file(tmp_path):
    """Others may read what the umask lets them read: a temporary file's own permissions are not inherited."""
    write_json(tmp_path / "x.json", 1)
    (tmp_path / "plain").write_text("1")
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_folders_are_made(tmp_path):
    """The folder of an output need not exist."""
    write_json(tmp_path / "a" / "b" / "x.json", {"k": "ä"})
    assert read_json(tmp_path / "a" / "b" / "x.json") == {"k": "ä"}


def test_broken_json_is_named(tmp_path):
    """A cut-off JSON file is an error with its name."""
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(MpqError, match=r"x\.json: not valid JSON"):
        read_json(tmp_path / "x.json")


def test_all_missing_files_are_named_at_once(tmp_path):
    """Who starts a long run learns of everything that it lacks."""
    (tmp_path / "there").touch()
    with pytest.raises(MissingInputError, match=r"missing 2 input.*one.*two"):
        require([tmp_path / "one", tmp_path / "there", tmp_path / "two"])


def test_the_hash_is_that_of_the_bytes(tmp_path):
    """Against hashlib over the whole content, longer than a block."""
    content = os.urandom((1 << 20) + 17)
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_a_stamp_is_json_and_says_what_made_it(tmp_path):
    """Verb, settings, versions and hashes of inputs survive JSON."""
    (tmp_path / "in").write_text("x")
    made_by = json.loads(json.dumps(stamp("text", {"a": 1}, [tmp_path / "in"])))
    assert made_by["verb"] == "text"
    assert made_by["settings"] == {"a": 1}
    assert made_by["inputs"] == {str(tmp_path / "in"): sha256_of(tmp_path / "in")}
    assert "numpy" in made_by["versions"]


def test_a_stamp_imports_nothing_heavy():
    """Versions are asked of the installed packages, not of their modules."""
    program = (
        "import sys; from kaldi_mpq.artefact import stamp; stamp('x', {})\n"
        "print([name for name in ('torch', 'k2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
