# SPDX-License-Identifier: Apache-2.0
"""Where espeak-ng is. Not here: what it says (`espeak`), for which torch must be loaded."""

from __future__ import annotations

import functools
import shutil

from kaldi_mpq.errors import ConfigError

__all__ = ["require_espeak"]

_INSTALL = "install it (Debian: apt-get install espeak-ng; macOS: brew install espeak-ng)"


@functools.cache
def require_espeak() -> str:
    """Return the path of espeak-ng.

    Raises:
      ConfigError: it is not installed.
    """
    path = shutil.which("espeak-ng")
    if path is None:
        raise ConfigError("no espeak-ng on PATH, which speaks the utterances", hint=_INSTALL)
    return path
