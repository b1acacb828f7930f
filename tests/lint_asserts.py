# SPDX-License-Identifier: Apache-2.0
"""Refuse tests that cannot fail: every ``test_*`` function asserts, expects an exception, or calls what asserts for it.

    python tests/lint_asserts.py tests

What asserts for it is named for that: ``assert_*``, ``check_*`` or ``expect_*``, with or without underscores before.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

_ASSERTING_CALLS = ("assert_", "check_", "expect_")
_PYTEST = ("raises", "fail", "warns")


def can_fail(test: ast.FunctionDef) -> bool:
    """Return whether some statement of a test can make it fail on purpose."""
    return any(isinstance(node, ast.Assert) or _asserts_for_it(node) for node in ast.walk(test))


def _asserts_for_it(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute) and node.func.attr in _PYTEST:
        return isinstance(node.func.value, ast.Name) and node.func.value.id == "pytest"
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name.lstrip("_").startswith(_ASSERTING_CALLS)


def toothless_tests(folder: Path) -> list[str]:
    """Return ``file:line: name`` of every test under ``folder`` that cannot fail."""
    found = []
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not can_fail(node):
                found.append(f"{path}:{node.lineno}: {node.name} asserts nothing")
    return found


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    found = [line for folder in sys.argv[1:] for line in toothless_tests(Path(folder))]
    print("\n".join(found) or "every test can fail")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
