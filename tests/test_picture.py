# SPDX-License-Identifier: Apache-2.0
"""Pictures: kinds of file, what is said without matplotlib, and that none is half there."""

from __future__ import annotations

import sys

import pytest

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.picture import new_figure, save_figure

BEGINNINGS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_ending_says_what_is_written(tmp_path, kind):
    """Each kind begins as such files do, and nothing else is left beside it."""
    path = tmp_path / f"picture.{kind}"
    figure = new_figure(path, 2.0, 1.0)
    figure.add_subplot().plot([1, 2], [3, 4])
    save_figure(figure, path)
    assert path.read_bytes().startswith(BEGINNINGS[kind])
    assert list(tmp_path.iterdir()) == [path]


def test_another_kind_is_refused_before_anything_is_drawn(tmp_path):
    """The error names the file and the kinds that there are."""
    with pytest.raises(ConfigError, match=r"picture\.bmp.*\.png, \.svg or \.pdf"):
        new_figure(tmp_path / "picture.bmp", 2.0, 1.0)


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    """No traceback of an import."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        new_figure(tmp_path / "picture.png", 2.0, 1.0)
