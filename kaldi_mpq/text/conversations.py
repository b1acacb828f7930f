# SPDX-License-Identifier: Apache-2.0
"""Which utterances of a Kaldi data directory follow each other in a conversation, or in one side of it.

Not here: their words (`corpus`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kaldi_mpq.artefact import require
from kaldi_mpq.errors import TextError

__all__ = ["conversations_of", "time_order"]

log = logging.getLogger(__name__)


def conversations_of(data: Path, *, sides: bool = False) -> list[list[str]]:
    """Return the utterances of each conversation of a data directory in the order in which they were spoken.

    Args:
      sides: every side of a conversation is one of its own.
    Raises:
      MissingInputError: there is no utt2spk.
      TextError: a malformed line.
    """
    require([data / "utt2spk"])
    order, number = time_order(data, list(_fields_by_key(data / "utt2spk", 2)), sides=sides)
    found: dict[int, list[str]] = {}
    for utterance, conversation in zip(order, number.tolist(), strict=True):
        found.setdefault(conversation, []).append(utterance)
    return list(found.values())


def time_order(data: Path, utterances: Sequence[str], *, sides: bool = False) -> tuple[list[str], np.ndarray]:
    """Return the utterances by conversation and time, and the number of each one's conversation, (N,) int32.

    A conversation is a file of ``reco2file_and_channel``, a side is a recording of ``segments``. Without ``segments``
    the order given is kept; a conversation is then the utterance id up to its first ``-`` or ``_``, and a side what
    one speaker of ``utt2spk`` says in it.

    Raises:
      TextError: a malformed line of one of these files.
    """
    segments = _fields_by_key(data / "segments", 4)
    without = [utterance for utterance in utterances if utterance not in segments]
    if without:
        if segments:
            missing = f"{len(without)} utterance(s), {without[0]} first"
            log.warning("%s lacks %s: keeping the order of the text", data / "segments", missing)
        names = [utterance.replace("_", "-").split("-")[0] for utterance in utterances]
        if sides:
            speakers = _fields_by_key(data / "utt2spk", 2)
            spoken = zip(names, utterances, strict=True)
            names = [f"{name} {speakers.get(utterance, [''])[0]}" for name, utterance in spoken]
        start = [float(position) for position in range(len(utterances))]
    else:
        files = {} if sides else _fields_by_key(data / "reco2file_and_channel", 2)
        recordings = [segments[utterance][0] for utterance in utterances]
        names = [files[recording][0] if recording in files else recording for recording in recordings]
        start = [_seconds(segments[utterance][1], data / "segments", utterance) for utterance in utterances]
    rank = {name: position for position, name in enumerate(dict.fromkeys(names))}
    order = sorted(range(len(utterances)), key=lambda i: (rank[names[i]], start[i], i))
    conversation = np.array([rank[names[i]] for i in order], np.int32)
    return [utterances[i] for i in order], conversation


def _fields_by_key(path: Path, fields: int) -> dict[str, list[str]]:
    """Return key -> the other fields of a Kaldi table; nothing where there is no such file.

    Raises:
      TextError: a line has fewer fields, or the file is not UTF-8.
    """
    if not path.exists():
        return {}
    table = {}
    for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            words = [word.decode("utf-8") for word in raw.split()]
        except UnicodeDecodeError as error:
            raise TextError("not UTF-8", where=f"{path}:{number}", found=str(error)) from error
        if 0 < len(words) < fields:
            raise TextError("bad line", where=f"{path}:{number}", expected=f"{fields} fields", found=" ".join(words))
        if words:
            table[words[0]] = words[1:]
    return table


def _seconds(word: str, path: Path, utterance: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise TextError(f"bad start of {utterance}", where=path, expected="seconds", found=repr(word))
    return seconds
