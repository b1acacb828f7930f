# SPDX-License-Identifier: Apache-2.0
"""What every script of the recipe does around its work: log to stderr, one line and exit code 2 for bad input.

Not here: options, which each script declares for itself.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable

from kaldi_mpq.errors import MpqError

__all__ = ["run"]


def run(main: Callable[[], None]) -> None:
    """Call ``main`` and exit: 0, 2 for bad input, 130 after Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    name = sys.argv[0].rsplit("/", 1)[-1]
    try:
        main()
    except MpqError as error:
        sys.exit(_say(name, str(error)))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            sys.exit(_say(name, f"the disk is full: {error.filename or ''}; free some space and run again"))
        raise
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _say(name: str, message: str) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return 2
