# SPDX-License-Identifier: Apache-2.0
"""Files that a verb leaves behind: written whole or not at all, and stamped with what made them.

Not here: what the files contain. Each verb owns its formats.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaldi_mpq.errors import MissingInputError, MpqError

__all__ = ["read_json", "require", "sha256_of", "stamp", "use_fast_mkl_on_amd", "write_json", "writing"]

_STAMPED_PACKAGES = ("kaldi_mpq", "torch", "k2", "numpy", "lhotse", "kaldiio", "safetensors")


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` when the block ends without an error.

    A file that exists under its final name is therefore a whole file; after an error nothing is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise MpqError(f"cannot write: {error.strerror or error}", where=path, hint="is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON with a final newline, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Return the JSON value in ``path``.

    Raises:
      MissingInputError: there is no such file.
      MpqError: the file is not JSON.
    """
    require([path])
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise MpqError("not valid JSON", where=path, found=str(error)) from error


def require(paths: Iterable[str | Path], *, hint: str | None = None) -> None:
    """Raise MissingInputError naming every one of ``paths`` that does not exist."""
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        raise MissingInputError(missing, hint=hint)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def stamp(verb: str, settings: Mapping[str, Any], inputs: Iterable[str | Path] = ()) -> dict[str, Any]:
    """Return what made an artefact: verb, settings, code version, package versions, machine and input hashes."""
    return {
        "verb": verb,
        "settings": dict(settings),
        "commit": _commit(),
        "versions": {name: version for name in _STAMPED_PACKAGES if (version := _version(name))},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "inputs": {str(path): sha256_of(path) for path in inputs},
    }


def use_fast_mkl_on_amd() -> None:
    """Ask MKL 2020 (inside torch 1.13.1) for its AVX2 code on AMD, 2.5 times faster; must run before torch loads.

    Later versions of MKL ignore the variable, and a value that the user has set is kept.
    """
    try:
        vendor_is_amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # no /proc: not Linux, and torch 1.13.1 with this MKL is Linux only
        return
    if vendor_is_amd:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the git commit of the checkout this code runs from, with ``+dirty`` after uncommitted changes."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False).stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD")
    return f"{head}+dirty" if head and git("status", "--porcelain", "--untracked-files=no") else head or None
