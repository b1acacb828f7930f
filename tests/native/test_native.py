# SPDX-License-Identifier: Apache-2.0
"""The package's names are loaded when they are used, and say what to do where they cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kaldi_mpq import native


def python(code: str) -> str:
    """Return what a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout


def test_every_export_is_there():
    """Each name of `__all__` can be had, `dir` shows it, and others are refused."""
    for name in native.__all__:
        assert getattr(native, name) is getattr(native, name)
        assert name in dir(native)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = native.nothing


def test_importing_the_package_loads_nothing():
    """Neither extensions nor numpy: `mpq --help` must be instant."""
    loaded = python("import sys, kaldi_mpq.native; print(*sys.modules)").split()
    assert "kaldi_mpq.native" in loaded
    assert not {"numpy", "torch", "kaldi_mpq.native.archive", "kaldi_mpq.native._archive"} & set(loaded)


@pytest.mark.parametrize(
    ("extension", "name"), [("_archive", "LatticeReader"), ("_paths", "nbest"), ("_ngram", "open_old_lm")]
)
def test_a_missing_extension_says_how_to_build_it(extension: str, name: str):
    """Only where it is needed, in one line; with the other extensions everything else works."""
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'kaldi_mpq.native.{extension}':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from kaldi_mpq import native\n"
        "from kaldi_mpq.errors import MpqError\n"
        f"try: native.{name}\n"
        "except MpqError as error: print(error)\n"
    )
    assert f"kaldi_mpq.native.{extension} is not built" in (shown := python(code))
    assert "build_ext --inplace" in shown
