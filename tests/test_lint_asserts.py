# SPDX-License-Identifier: Apache-2.0
"""The check of `make check` that every test can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.lint_asserts import toothless_tests


@pytest.mark.parametrize(
    ("body", "toothless"),
    [
        ("    assert f() == 1", False),
        ("    with pytest.raises(ValueError):\n        f()", False),
        ("    check_all(f())", False),
        ("    np.testing.assert_allclose(f(), 1)", False),
        ("    self._assert_same(f())", False),
        ("    print(f())", True),
        ("    f()", True),
        ("    raises(f())", True),
        ("    for x in f():\n        assert x", False),
    ],
)
def test_a_test_without_teeth_is_found(tmp_path, body, toothless):
    """Printing is no test; an assertion anywhere in it is."""
    (tmp_path / "test_x.py").write_text(f"def test_it():\n{body}\n\ndef helper():\n    pass\n")
    assert bool(toothless_tests(tmp_path)) is toothless


def test_the_check_fails_and_says_where(tmp_path):
    """Its status is 1, and the line names file, line and test."""
    (tmp_path / "test_x.py").write_text("\ndef test_it():\n    pass\n")
    command = [sys.executable, str(ROOT / "tests" / "lint_asserts.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "test_x.py:2: test_it" in done.stdout


def test_every_test_here_can_fail():
    """All tests of this project."""
    assert toothless_tests(ROOT / "tests") == []
