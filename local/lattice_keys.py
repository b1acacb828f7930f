# SPDX-License-Identifier: Apache-2.0
"""Print the keys of a lattice archive, or check that a second archive has the same ones in the same order.

    lattice_keys.py lat.1.gz [other/lat.1.gz]

Not here: what the lattices hold.
"""

from __future__ import annotations

import sys
from itertools import zip_longest

from kaldi_mpq import native
from kaldi_mpq.errors import LatticeError, MpqError


def keys_of(path: str) -> list[str]:
    """Return the keys of an archive, in file order.

    Raises:
      MpqError: it is not there, or cannot be read to its end.
    """
    with native.LatticeReader(path) as reader:
        return [key for lattices in reader.batches() for key in lattices.keys]


def compare(path: str, other: str) -> str:
    """Return how many keys two archives have alike.

    Raises:
      LatticeError: they differ; the first difference is shown.
    """
    keys, others = keys_of(path), keys_of(other)
    for number, (expected, found) in enumerate(zip_longest(keys, others), start=1):
        if expected != found:
            raise LatticeError(
                f"lattice {number} has another key",
                where=other,
                expected=f"{expected or 'no more'} ({len(keys)} lattices as in {path})",
                found=f"{found or 'no more'} ({len(others)} lattices)",
            )
    return f"{other}: the {len(keys)} keys of {path}"


def main() -> int:
    """Run the command line; return its exit status."""
    if len(sys.argv) not in (2, 3):
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    try:
        print(compare(*sys.argv[1:]) if len(sys.argv) == 3 else "\n".join(keys_of(sys.argv[1])))
    except MpqError as error:
        print(f"ERROR (lattice_keys) {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
