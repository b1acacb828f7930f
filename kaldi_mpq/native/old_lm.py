# SPDX-License-Identifier: Apache-2.0
"""The old language model: G.fst, G.carpa or an ARPA file, and the costs of many sentences under it.

A backoff n-gram gives a sentence the cost

    cost(w_1 .. w_n) = sum_i cost(w_i | history) + cost(</s> | history),      cost = -ln p

where a history without the word adds its backoff weight and is shortened. G.fst holds that as an automaton with epsilon
arcs, which can be read in two ways: "backoff" takes an epsilon arc only where the word is missing; "best" takes the
cheapest path, as Kaldi's composition does, which sometimes backs off from a word that is there.

Not here: what is done with the costs, and vocabularies (a plain mapping from word to id is all that is needed).
"""

from __future__ import annotations

import gzip
import logging
import time
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kaldi_mpq.artefact import require
from kaldi_mpq.errors import ConfigError, MissingInputError, OldLmError
from kaldi_mpq.native import _ngram

__all__ = ["OldLm", "find_old_lm", "open_old_lm"]

log = logging.getLogger(__name__)

READINGS = ("best", "backoff")
_FILES = {"fst": "G.fst", "carpa": "G.carpa"}
_FST_MAGIC = b"\xd6\xfd\xb2\x7e"
_KALDI_BINARY = b"\0B"
_GZIP_MAGIC = b"\x1f\x8b"
_PIECE_BYTES = 1 << 20


class OldLm:
    """An n-gram language model that was read; `open_old_lm` makes it.

    Args:
      path: the file.
      kind: ``"fst"``, ``"carpa"`` or ``"arpa"``.
      model: what the extension module read.
    """

    def __init__(self, path: Path, kind: str, model: Any) -> None:
        self.path = path
        self.kind = kind
        self._model = model

    def __repr__(self) -> str:
        if self.kind == "carpa":
            return f"OldLm({str(self.path)!r}, {self._model.order}-gram, {self._model.num_nodes} histories)"
        return f"OldLm({str(self.path)!r}, {self._model.num_states} states, {self._model.num_arcs} arcs)"

    def score(
        self, word_offsets: np.ndarray, words: np.ndarray, reading: str = "best"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the cost of every word, (W,) float64, and of every sentence's end, (P,) float64, in nats.

        A word that the model lacks costs infinity, and the rest of its sentence is read with an empty history. Word 0
        is no word and costs 0. Other threads run meanwhile. Sentences that begin alike are faster side by side.

        Args:
          word_offsets: (P + 1,) int64; sentence p is ``words[word_offsets[p]:word_offsets[p + 1]]``.
          words: (W,) int32, word ids, without sentence boundaries.
          reading: ``"best"``: the cheapest path of the sentence through G.fst, a word's cost being the increment along
            it; ``"backoff"``: the deterministic reading. G.carpa and ARPA have only the latter.
        Raises:
          ValueError: the arrays do not describe sentences, or there is no such reading.
        """
        self._check(reading)
        if self.kind == "carpa":
            return self._model.score(word_offsets, words)
        return self._model.score(word_offsets, words, best=reading == "best" and self.kind == "fst")

    def initial(self, reading: str = "backoff") -> np.ndarray:
        """Return the state before a sentence, a row of int64 numbers (K,).

        Args:
          reading: as for `score`; states of one are of no use to the other.
        """
        return self._reader(reading).initial()

    def advance(self, rows: np.ndarray, words: np.ndarray, reading: str = "backoff") -> tuple[np.ndarray, np.ndarray]:
        """Read one word in each of many states.

        Args:
          rows: (N, K) int64, the states, from `initial` or from here.
          words: (N,) int32; -1: the sentence end, which leads nowhere (its row comes back as it was).
          reading: that of `initial`. ``"best"``: costs of a sentence's words add up to those of its cheapest path.
        Returns:
          (N, K) the states after the words, and (N,) float64 costs in nats; infinite where the model lacks the word.
        Raises:
          OldLmError: ``"best"``, and the words so far lead to more states than they do in a backoff n-gram.
        """
        try:
            return self._reader(reading).advance(rows, words)
        except _ngram.Fault as fault:
            raise _error(self.path, fault) from None

    def _reader(self, reading: str) -> Any:
        self._check(reading)
        return self._cheapest if reading == "best" and self.kind == "fst" else self._model

    @staticmethod
    def _check(reading: str) -> None:
        if reading not in READINGS:
            raise ValueError(f"reading is one of {READINGS}, not {reading!r}")

    @cached_property
    def _cheapest(self) -> Any:
        return _ngram.Cheapest(self._model)


def open_old_lm(
    path: str | Path,
    words: Mapping[str, int] | None = None,
    *,
    bos: str = "<s>",
    eos: str = "</s>",
    unk: str | None = "<unk>",
    unk_logp: float | None = None,
    disambig: str = "#0",
) -> OldLm:
    """Return the language model in ``path``; what kind of file it is, its first bytes say.

    Args:
      path: G.fst (OpenFst vector FST, standard arcs), G.carpa (either layout), or an ARPA file, plain or gzipped.
      words: id of each word of words.txt. An ARPA file needs it; n-grams with other words are left out and counted. A
        G.fst or G.carpa is checked against it where it is given.
      bos, eos: the sentence start and end among ``words``.
      unk: ARPA: what words of words.txt without a unigram are scored as, if the file has it; None: they cost infinity.
        (G.carpa says that itself, and G.fst cannot.)
      unk_logp: ARPA without a unigram of ``unk``: the natural-log probability to give it, ``ln(1e-7)`` for instance
        (the model then sums to more than 1). None: unknown words cost infinity.
      disambig: G.fst: the symbol that is read as epsilon besides ``<eps>``.
    Raises:
      MissingInputError: no such file.
      OldLmError: the file is damaged, of another type, or does not fit ``words``.
    """
    path = Path(path)
    require([path])
    started = time.monotonic()
    try:
        with open(path, "rb") as stream:
            first = stream.read(4)
        if first == _FST_MAGIC:
            lm = OldLm(path, "fst", _open_fst(path, words, disambig))
        elif first[:2] == _KALDI_BINARY:
            lm = OldLm(path, "carpa", _open_carpa(path, words, {bos: "bos", eos: "eos"}))
        else:
            if words is None:
                raise OldLmError("an ARPA file needs the word ids of words.txt", where=path)
            lm = OldLm(path, "arpa", _open_arpa(path, words, (bos, eos, unk), unk_logp))
    except _ngram.Fault as fault:
        raise _error(path, fault) from None
    except OSError as error:
        raise OldLmError("cannot read", where=path, found=error.strerror or error) from error
    log.info("old LM: %s, read in %.2f s", lm, time.monotonic() - started)
    return lm


def find_old_lm(lang_dir: str | Path, choice: str | Path = "auto", *, prefer: str = "carpa") -> Path:
    """Return the file of the old language model in a Kaldi lang directory.

    Kaldi's scripts disagree where both are there: lmrescore_nbest.sh and lmrescore.sh take G.carpa, lmrescore_pruned.sh
    takes G.fst. So ``auto`` follows ``prefer``, and says so.

    Args:
      choice: ``"auto"``, ``"fst"``, ``"carpa"``, or a file.
      prefer: ``"carpa"`` or ``"fst"``: what ``auto`` takes where both are there.
    Raises:
      MissingInputError: naming what is not there.
    """
    if prefer not in _FILES:
        raise ConfigError("bad value for prefer", expected=" or ".join(_FILES), found=prefer)
    if str(choice) in _FILES:
        path = Path(lang_dir) / _FILES[str(choice)]
        require([path])
        return path
    if str(choice) != "auto":
        require([choice], hint=f"an old LM is auto, {', '.join(_FILES)}, or a file")
        return Path(choice)
    there = [kind for kind in (prefer, *_FILES) if (Path(lang_dir) / _FILES[kind]).exists()]
    if not there:
        raise MissingInputError([Path(lang_dir) / name for name in _FILES.values()], hint="one of them is needed")
    path = Path(lang_dir) / _FILES[there[0]]
    if len(set(there)) > 1:
        other = _FILES["fst" if prefer == "carpa" else "carpa"]
        log.warning("%s has both G.fst and G.carpa: %s is taken as the LM inside the lattices; if that is %s, "
                    "say so with --old-lm", lang_dir, path.name, other)  # fmt: skip
    return path


def _error(path: Path, fault: Exception) -> OldLmError:
    what, place, expected, found, hint = fault.args
    return OldLmError(
        what,
        where=f"{path}{place}",
        expected=expected or None,
        found=found.decode("utf-8", "replace") or None,
        hint=hint or None,
    )


def _open_fst(path: Path, words: Mapping[str, int] | None, disambig: str) -> Any:
    model = _ngram.Automaton(str(path), disambig=words.get(disambig, -1) if words else -1)
    if words and model.max_label > (largest := max(words.values())):
        raise OldLmError(
            "a word id is not in words.txt",
            where=path,
            expected=f"ids up to {largest}",
            found=model.max_label,
            hint="is it of the same lang directory?",
        )
    if model.ambiguous_states:
        log.warning("%s: %d states have several arcs of one label; the backoff reading takes the cheapest",
                    path, model.ambiguous_states)  # fmt: skip
    return model


def _open_carpa(path: Path, words: Mapping[str, int] | None, symbols: Mapping[str, str]) -> Any:
    model = _ngram.ConstArpa(str(path))
    for symbol, attribute in symbols.items():
        found = getattr(model, attribute)
        if words and symbol in words and words[symbol] != found:
            hint = "is it of the same words.txt?"
            raise OldLmError(f"another id of {symbol}", where=path, expected=words[symbol], found=found, hint=hint)
    return model


def _open_arpa(
    path: Path, words: Mapping[str, int], symbols: tuple[str, str, str | None], unk_logp: float | None
) -> Any:
    bos, eos, unk = symbols
    for symbol in (bos, eos):
        if symbol not in words:
            raise OldLmError(f"no symbol {symbol!r} in words.txt", where=path, hint="name the boundaries of words.txt")
    unk_id = words.get(unk, -1) if unk is not None else -1
    unk_cost = -unk_logp if unk_logp is not None else np.inf
    reader = _ngram.ArpaReader(dict(words), words[bos], words[eos], unk_id, unk_cost)
    for piece in _pieces(path):
        reader.feed(piece)
    model = reader.finish()
    skipped = reader.skipped
    if skipped["unknown_word"]:
        named = ", ".join(word.decode("utf-8", "replace") for word in skipped["first_words"])
        log.warning("%s: %d words are not in words.txt (%s, ...): %d n-grams left out",
                    path, skipped["words"], named, skipped["unknown_word"])  # fmt: skip
    if skipped["no_parent"] or skipped["misplaced_boundary"]:
        log.warning("%s: left out %d n-grams whose history is no n-gram, %d with a sentence boundary inside",
                    path, skipped["no_parent"], skipped["misplaced_boundary"])  # fmt: skip
    return model


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as raw:
        zipped = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if not zipped:
            while piece := raw.read(_PIECE_BYTES):
                yield piece
            return
        with gzip.GzipFile(fileobj=raw) as stream:
            done = 0
            try:
                while piece := stream.read(_PIECE_BYTES):
                    done += len(piece)
                    yield piece
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise OldLmError(
                    "damaged gzip data",
                    where=path,
                    expected="a whole gzip file",
                    found=f"{error} after {done} bytes of text",
                ) from error
