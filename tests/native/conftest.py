# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of native code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.old_lm_files import LmFiles


@pytest.fixture
def lm_files(tmp_path: Path) -> LmFiles:
    """A toy trigram's ARPA text and words, and writers of Kaldi's formats into a temporary folder."""
    return LmFiles(tmp_path)
