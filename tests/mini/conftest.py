# SPDX-License-Identifier: Apache-2.0
"""The scripts of recipes/mini/local import each other by name: their folder is put where Python looks."""

from __future__ import annotations

import sys

from tests.conftest import ROOT

MINI = ROOT / "recipes" / "mini" / "local"
if str(MINI) not in sys.path:
    sys.path.insert(0, str(MINI))
