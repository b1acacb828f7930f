# SPDX-License-Identifier: Apache-2.0
"""The bytes of ``model.mpq``: a safetensors file whose metadata say what it holds, under one checksum over every byte.

The checksum is the SHA-256 of the file with the checksum's own 64 digits read as zeros, so that a changed byte
anywhere, names and lengths included, is noticed. docs/format.md has the layout.

The file is written and read here rather than by the safetensors package, because that one orders metadata at random
(two packings of one model would differ) and hands out copies, not views of the mapped file. Not here: what the tensors
mean (`write`, `read`).
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import ModelFileError

__all__ = ["FORMAT", "VERSION", "Contents", "Stored", "encode_header", "read_file", "tensor_entry", "write_file"]

FORMAT = "kaldi_mpq"
VERSION = "1"
_NO_CHECKSUM = "0" * 64
_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "U8": np.dtype("u1")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LARGEST_HEADER = 100_000_000  # as in the safetensors package
Stored = tuple[np.dtype, tuple[int, ...]]  # type and shape of a tensor


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Args:
      header: JSON object; `write.header_of` says which keys.
      tensors: read-only views of the mapped file, by name.
      header_bytes: size of the safetensors header with its length field.
    """

    header: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]
    header_bytes: int


def encode_header(header: Mapping[str, Any], tensors: Mapping[str, Stored]) -> tuple[bytes, list[str]]:
    """Return the file's JSON header, its checksum's digits still zeros, and the order of the tensors' data.

    Args:
      tensors: type and shape of each tensor, by name.
    """
    # Wide types first keeps every tensor aligned to its own size.
    order = sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name))
    metadata = {
        "format": FORMAT,
        "format_version": VERSION,
        "checksum": _NO_CHECKSUM,
        "header": json.dumps(header, ensure_ascii=True, separators=(",", ":")),
    }
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in order:
        dtype, shape = tensors[name]
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        entries[name] = tensor_entry(dtype, shape, begin, end)
    text = json.dumps(entries, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return text + b" " * (-len(text) % 8), order


def tensor_entry(dtype: np.dtype, shape: tuple[int, ...], begin: int, end: int) -> dict[str, Any]:
    """Return what the header says of a tensor whose data are bytes ``begin`` to ``end``."""
    return {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}


def write_file(path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a model file, whole or not at all; the same contents give the same bytes."""
    text, order = encode_header(header, {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()})
    parts = [len(text).to_bytes(8, "little"), text, *(np.ascontiguousarray(tensors[name]).tobytes() for name in order)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    parts[1] = text.replace(_NO_CHECKSUM.encode(), digest.hexdigest().encode(), 1)
    with writing(path) as temporary, open(temporary, "wb") as stream:
        for part in parts:
            stream.write(part)


def read_file(path: str | Path) -> Contents:
    """Return the contents of a model file, its tensors as views of the mapped file.

    Raises:
      MissingInputError: no such file.
      ModelFileError: not such a file, another version, cut short, bytes changed or added.
    """
    require([path])
    with open(path, "rb") as stream:
        if Path(path).stat().st_size < 16:
            raise ModelFileError("not a model file", where=path, expected="at least 16 bytes", hint="was it cut short?")
        data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    entries, start = _entries(data, path)
    metadata = _metadata(entries, path)
    _check_sum(data, start, metadata["checksum"], path)
    tensors = _views(data[start:], entries, path)
    try:
        header = json.loads(metadata["header"])
    except ValueError as error:
        raise ModelFileError("bad header", where=path, found=str(error)) from error
    if not isinstance(header, dict):
        raise ModelFileError("bad header", where=path, expected="a JSON object", found=type(header).__name__)
    return Contents(header, tensors, start)


def _entries(data: memoryview, path: str | Path) -> tuple[dict[str, Any], int]:
    """Return the safetensors header and where the tensors start."""
    size = int.from_bytes(data[:8], "little")
    if size > min(len(data) - 8, _LARGEST_HEADER):
        raise ModelFileError(
            "not a model file, or one that was cut short",
            where=path,
            expected=f"a header of {size} bytes",
            found=f"{len(data)} bytes in all",
        )
    try:
        entries = json.loads(bytes(data[8 : 8 + size]).decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError("damaged header", where=path, found=str(error)) from error
    if not isinstance(entries, dict):
        raise ModelFileError("damaged header", where=path, expected="a JSON object", found=type(entries).__name__)
    return entries, 8 + size


def _metadata(entries: dict[str, Any], path: str | Path) -> dict[str, str]:
    """Take the metadata out of ``entries`` and return them, complete and of this version."""
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ModelFileError(f"no {FORMAT} model", where=path, hint="mpq pack makes one from what mpq fit wrote")
    if metadata.get("format_version") != VERSION:
        found = metadata.get("format_version")
        raise ModelFileError(
            "unknown format version", where=path, expected=VERSION, found=found, hint="pack it again with this version"
        )
    for key in ("checksum", "header"):
        if not isinstance(metadata.get(key), str):
            raise ModelFileError(f"no {key} in the header", where=path)
    return metadata


def _check_sum(data: memoryview, start: int, checksum: str, path: str | Path) -> None:
    head = bytes(data[:start])
    place = head.find(checksum.encode("ascii")) if len(checksum) == 64 and checksum.isascii() else -1
    digest = (
        hashlib.sha256(head[:place] + _NO_CHECKSUM.encode() + head[place + 64 :]) if place >= 0 else hashlib.sha256()
    )
    digest.update(data[start:])
    if place < 0 or digest.hexdigest() != checksum:
        raise ModelFileError(
            "the checksum is wrong: damaged, cut short or changed",
            where=path,
            expected=checksum[:16],
            found=digest.hexdigest()[:16],
            hint="copy it again, or pack it again",
        )


def _views(data: memoryview, entries: dict[str, Any], path: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors; together they must be the data, without holes."""
    views: dict[str, np.ndarray] = {}
    end = 0
    try:
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
            begin, stop = entry["data_offsets"]
            if begin != end or stop - begin != dtype.itemsize * math.prod(shape) or min(shape, default=0) < 0:
                raise ValueError(f"tensor {name} of shape {shape} in bytes {begin} to {stop} after {end}")
            views[name] = np.frombuffer(data[begin:stop], dtype).reshape(shape)
            end = stop
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError("damaged header", where=path, found=str(error)) from error
    if end != len(data):
        raise ModelFileError("the size is wrong", where=path, expected=f"{end} bytes of tensors", found=f"{len(data)}")
    return views
