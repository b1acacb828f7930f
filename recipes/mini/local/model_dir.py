# SPDX-License-Identifier: Apache-2.0
"""Write what Kaldi's scoring looks for beside decode directories: final.mdl and frame_subsampling_factor.

    model_dir.py EXP

Not here: the weights of the network (`train_am`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import command
from phones import PhoneTable
from tdnnf import SUBSAMPLING
from transition_model import write_transition_model

from kaldi_mpq.artefact import writing

__all__ = ["write_model_dir"]


def write_model_dir(directory: Path) -> None:
    """Write both files."""
    write_transition_model(directory / "final.mdl", PhoneTable())
    with writing(directory / "frame_subsampling_factor") as temporary:
        temporary.write_text(f"{SUBSAMPLING}\n", encoding="ascii")


def main() -> None:
    """Read the options, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="directory above the decode directories")
    write_model_dir(parser.parse_args().directory)


if __name__ == "__main__":
    command.run(main)
