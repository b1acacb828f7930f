# SPDX-License-Identifier: Apache-2.0
"""The architecture: imports go down, siblings do not meet, scoring needs no tensors, k2 has one door.

import-linter reads the contracts of pyproject.toml; here they are tried on a copy of the package with one bad import.
Without import-linter the layers are still checked, by reading the import statements.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "kaldi_mpq"


def layers() -> list[list[str]]:
    """Return the rows of the layers contract, the highest first."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^layers = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE).group(1)
    return [re.split(r"\s*[|:]\s*", row) for row in re.findall(r'"(.*?)"', block)]


def imports_of(path: Path) -> set[str]:
    """Return the parts of kaldi_mpq that a file names in its import statements, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("kaldi_mpq.")}
    return found


def violations(package: Path) -> list[str]:
    """Return the imports of a package that do not go down."""
    row_of = {name: row for row, names in enumerate(layers()) for name in names}
    bottom = len(layers()) - 1
    found = []
    for path in sorted(package.rglob("*.py")):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        for target in imports_of(path) & row_of.keys() if part in row_of else []:
            down = row_of[target] > row_of[part] or row_of[part] == row_of[target] == bottom
            if target != part and not down:
                found.append(f"{path.relative_to(package)} imports {target}")
    return found


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the package's sources and its contracts, to be spoiled."""
    shutil.copytree(PACKAGE, tmp_path / "kaldi_mpq", ignore=shutil.ignore_patterns("*.so", "src", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter there."""
    if importlib.util.find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed")
    program = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_every_part_of_the_package_has_a_layer():
    """A new package must be put into a layer before it can be used."""
    parts = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    assert parts == {name for row in layers() for name in row}


def test_imports_go_down():
    """No file of the package imports what is above or beside it."""
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("lm/bad.py", "from kaldi_mpq.pack.load import open_lm"),
        ("quant/bad.py", "def f():\n    import kaldi_mpq.lm.model"),
        ("native/bad.py", "from kaldi_mpq import text"),
    ],
)
def test_an_import_upwards_is_found(copy, file, line):
    """Upwards, sideways, inside a function, as a name of the package: each is seen."""
    (copy / "kaldi_mpq" / file).write_text(line + "\n")
    assert [found.split()[0] for found in violations(copy / "kaldi_mpq")] == [file]


def test_the_contracts_hold(copy):
    """import-linter finds nothing wrong with the package as it is."""
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("lm/bad.py", "from kaldi_mpq.pack.load import open_lm", "data flows one way BROKEN"),
        ("score/bad.py", "def f():\n    import torch", "scoring needs no tensors BROKEN"),
        ("score/bad.py", "import kaldi_mpq.text.prepare, torch.nn", "scoring needs no tensors BROKEN"),
        ("rescore/bad.py", "def f():\n    import k2", "k2 has one door BROKEN"),
    ],
)
def test_a_broken_contract_fails_the_check(copy, file, line, contract):
    """What `make check` runs ends with an error when an import breaks the architecture."""
    (copy / "kaldi_mpq" / file).write_text(line + "\n")
    done = lint(copy)
    assert done.returncode != 0
    assert contract in done.stdout
