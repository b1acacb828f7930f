# SPDX-License-Identifier: Apache-2.0
"""Utterances as word ids in flat arrays, grouped into conversations and in time order within each.

Not here: which utterances are a conversation (`conversations`), how a model batches them (`lm.batches`).
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import TextError
from kaldi_mpq.text.conversations import time_order
from kaldi_mpq.text.vocab import Vocabulary

__all__ = ["Corpus", "TextStats", "read_text"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """N utterances of W words in all, without boundary symbols.

    Args:
      words: (W,) int32, word ids.
      offsets: (N + 1,) int64; utterance i is ``words[offsets[i]:offsets[i + 1]]``.
      conversation: (N,) int32, number of the conversation of each utterance; equal numbers are adjacent.
    """

    words: np.ndarray
    offsets: np.ndarray
    conversation: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64, words of each utterance."""
        return np.diff(self.offsets)

    @property
    def num_tokens(self) -> int:
        """Words and one sentence end per utterance: what a perplexity is counted over."""
        return int(self.offsets[-1]) + len(self)

    def save(self, path: str | Path) -> None:
        """Write the corpus, whole or not at all."""
        arrays = {"words": self.words, "offsets": self.offsets, "conversation": self.conversation}
        with writing(path) as temporary:
            save_file(arrays, temporary)

    @classmethod
    def load(cls, path: str | Path) -> Corpus:
        """Read what `save` wrote.

        Raises:
          MissingInputError, TextError: no such file, or not a whole one.
        """
        require([path], hint="mpq text makes it")
        try:
            return cls(**load_file(path))
        except (SafetensorError, TypeError) as error:
            raise TextError("not a corpus", where=path, found=str(error), hint="make it again with mpq text") from error


@dataclass(frozen=True)
class TextStats:
    """What was read: utterances, words, and how many of them the vocabulary lacks."""

    utterances: int
    words: int
    oov_words: int
    conversations: int
    most_frequent_oov: dict[str, int]

    def __str__(self) -> str:
        rate = 100.0 * self.oov_words / max(self.words, 1)
        worst = ", ".join(f"{word} ({count})" for word, count in self.most_frequent_oov.items())
        return (
            f"{self.utterances} utterances, {self.words} words, {self.conversations} conversations, "
            f"{self.oov_words} out of vocabulary ({rate:.2f}%){': ' + worst if worst else ''}"
        )


def read_text(path: str | Path, vocabulary: Vocabulary) -> tuple[Corpus, TextStats]:
    """Read a Kaldi ``text`` file (``uttid word word ...``), its words as ids, unknown ones as the unknown word.

    Conversations and times come from ``segments`` and ``reco2file_and_channel`` beside the file, so that the two sides
    of a conversation interleave as they were spoken; without ``segments`` the order of the file is kept, and a
    conversation is the utterance id up to its first ``-`` or ``_``.

    Raises:
      MissingInputError: no such file.
      TextError: naming the line: bytes that are not UTF-8, a repeated utterance id, a boundary symbol among the words,
        a segment without a start time.
    """
    data = Path(path).parent
    path = follow_flattened_link(Path(path))
    utterances = _read_lines(path)
    order, conversation = time_order(data, list(utterances))
    forbidden = {vocabulary.words[vocabulary.bos], vocabulary.words[vocabulary.eos], "<eps>", "#0"}
    oov: Counter[str] = Counter()
    flat: list[int] = []
    offsets = [0]
    for utterance in order:
        words = utterances[utterance][1]
        if not forbidden.isdisjoint(words):
            bad = next(word for word in words if word in forbidden)
            where = f"{path}:{utterances[utterance][0]}"
            raise TextError(f"symbol {bad!r} among the words", where=where, hint="remove it")
        ids = [vocabulary.ids.get(word, -1) for word in words]
        oov.update(word for word, number in zip(words, ids, strict=True) if number < 0)
        flat.extend(vocabulary.unk if number < 0 else number for number in ids)
        offsets.append(len(flat))
    corpus = Corpus(np.array(flat, np.int32), np.array(offsets, np.int64), conversation)
    total = sum(oov.values())
    stats = TextStats(len(corpus), len(flat), total, len(np.unique(conversation)), dict(oov.most_common(5)))
    return corpus, stats


def follow_flattened_link(path: Path) -> Path:
    """Return the file that ``path`` names, if it is a symbolic link that some copy turned into a file of its target."""
    require([path])
    name = path.read_text(encoding="utf-8", errors="replace").strip() if path.stat().st_size < 4096 else ""
    target = path.parent / name
    try:
        is_link = bool(name) and "\n" not in name and target.is_file()
    except OSError:  # too long for a name: it is an utterance
        is_link = False
    if is_link:
        log.warning("%s holds the name of a file (a flattened link): reading %s", path, target)
    return target if is_link else path


def _read_lines(path: Path) -> dict[str, tuple[int, list[str]]]:
    utterances: dict[str, tuple[int, list[str]]] = {}
    for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            fields = [field.decode("utf-8") for field in raw.split()]  # at ASCII space only, as Kaldi does
        except UnicodeDecodeError as error:
            raise TextError("not UTF-8", where=f"{path}:{number}", found=str(error)) from error
        if not fields:
            continue
        if fields[0] in utterances:
            also = f"also at line {utterances[fields[0]][0]}"
            raise TextError(f"utterance {fields[0]!r} is there twice", where=f"{path}:{number}", found=also)
        utterances[fields[0]] = (number, fields[1:])
    if not utterances:
        raise TextError("no utterances", where=path, expected="lines of 'uttid word word ...'")
    return utterances
