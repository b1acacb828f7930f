# SPDX-License-Identifier: Apache-2.0
"""Small n-gram language models in Kaldi's formats, and slow readings of them to compare with."""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FST_MAGIC = 2125659606
SYMBOLS_MAGIC = 2125658996

# Backing off is cheaper than the explicit n-gram "a b", and "b a c" ends in a history "a c" that does not exist.
TOY_ARPA = """\\data\\
ngram 1=7
ngram 2=7
ngram 3=4

\\1-grams:
-99\t<s>\t-0.3
-1.2\t</s>
-0.6\ta\t-0.1
-0.5\tb\t-0.2
-0.9\tc
-1.1\té\t-0.05
-2.5\t<unk>\t-0.4

\\2-grams:
-0.3\t<s> a\t-0.25
-3.5\ta b\t-0.15
-0.7\tb a\t-0.35
-0.4\tb </s>
-0.8\tc é\t0.1
-1.3\té é
-0.2\t<unk> b

\\3-grams:
-0.1\t<s> a b
-2.9\ta b a
-0.6\tb a c
-0.5\tc é é

\\end\\
"""
TOY_WORDS = ("<eps>", "é", "a", "b", "c", "rare", "<unk>", "#0", "<s>", "</s>")


@dataclass
class LmFiles:
    """Where to write, and how."""

    folder: Path
    arpa: str = TOY_ARPA
    words: dict[str, int] = field(default_factory=lambda: {word: i for i, word in enumerate(TOY_WORDS)})

    def write_arpa(self, text: str | None = None, name: str = "lm.arpa") -> Path:
        """Write an ARPA file (the toy one), gzipped if ``name`` ends in .gz."""
        path = self.folder / name
        data = (self.arpa if text is None else text).encode("utf-8")
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    def write_words(self) -> Path:
        """Write words.txt."""
        path = self.folder / "words.txt"
        path.write_text("".join(f"{word} {i}\n" for word, i in self.words.items()), encoding="utf-8")
        return path

    def write_fst(self, states: list[dict[str, Any]], start: int = 0, *, name: str = "G.fst", **header: Any) -> Path:
        """Write states ``{"final": cost, "arcs": [(ilabel, olabel, cost, dest)]}`` as an OpenFst file."""
        path = self.folder / name
        path.write_bytes(fst_bytes(states, start, **header))
        return path

    def sentences(self, rng: np.random.Generator, number: int, words: list[int], longest: int = 8) -> Sentences:
        """Return random sentences, some of them empty."""
        return Sentences([list(rng.choice(words, rng.integers(0, longest + 1))) for _ in range(number)])


class Sentences:
    """Sentences as lists and in the flat form that `OldLm.score` takes."""

    def __init__(self, lists: list[list[int]]) -> None:
        self.lists = [[int(word) for word in words] for words in lists]
        self.offsets = np.cumsum([0] + [len(words) for words in self.lists]).astype(np.int64)
        self.words = np.array([word for words in self.lists for word in words], np.int32)

    def costs(self, lm: Any, reading: str = "best") -> list[list[float]]:
        """Return each sentence's word costs and final cost."""
        word, final = lm.score(self.offsets, self.words, reading)
        return [[*word[b:e], last] for b, e, last in zip(self.offsets[:-1], self.offsets[1:], final)]

    def totals(self, lm: Any, reading: str = "best") -> np.ndarray:
        """Return each sentence's cost."""
        return np.array([sum(costs) for costs in self.costs(lm, reading)])


def fst_bytes(
    states: list[dict[str, Any]],
    start: int = 0,
    *,
    fst_type: str = "vector",
    arc_type: str = "standard",
    version: int = 2,
    symbols: list[str] | None = None,
    num_states: int | None = None,
) -> bytes:
    """Return an OpenFst file; ``symbols`` are written as input and output symbol tables."""
    out = struct.pack("<i", FST_MAGIC)
    for text in (fst_type, arc_type):
        out += struct.pack("<i", len(text)) + text.encode()
    count = len(states) if num_states is None else num_states
    out += struct.pack("<iiQqqq", version, 3 if symbols else 0, 3, start, count, 0)
    if symbols:
        table = struct.pack("<ii4sqq", SYMBOLS_MAGIC, 4, b"name", len(symbols), len(symbols))
        for key, symbol in enumerate(symbols):
            table += struct.pack("<i", len(symbol.encode())) + symbol.encode() + struct.pack("<q", key)
        out += table + table
    parts = [out]
    for state in states:
        parts.append(struct.pack("<fq", state["final"], len(state["arcs"])))
        parts += [struct.pack("<iifi", *arc) for arc in state["arcs"]]
    return b"".join(parts)


def projected(fst: bytes) -> bytes:
    """Return an OpenFst file with its output labels on both sides, as ``fstproject --project_output=true`` does."""
    out = bytearray(fst)
    out[34:42] = struct.pack("<Q", 3)  # no longer known to be sorted
    (states,) = struct.unpack_from("<q", fst, 50)
    at = 66
    for _ in range(states):
        (arcs,) = struct.unpack_from("<q", fst, at + 4)
        at += 12
        for _ in range(arcs):
            out[at : at + 4] = fst[at + 4 : at + 8]
            at += 16
    return bytes(out)


class SlowArpa:
    """An ARPA file as a dict from n-gram to (log-probability, backoff weight), natural, and lookup by the book."""

    def __init__(self, text: str, words: dict[str, int], unk: str | None = "<unk>") -> None:
        self.ngrams: dict[tuple[int, ...], tuple[float, float]] = {}
        self.bos, self.eos = words["<s>"], words["</s>"]
        self.order = 0
        for line in text.splitlines():
            fields = line.split()
            if line.startswith("\\") and line.endswith("-grams:"):
                self.order = int(line[1:-7])
            elif self.order and len(fields) > self.order and all(word in words for word in fields[1 : self.order + 1]):
                ngram = tuple(words[word] for word in fields[1 : self.order + 1])
                backoff = float(fields[self.order + 1]) if len(fields) > self.order + 1 else 0.0
                self.ngrams[ngram] = (float(fields[0]) * math.log(10), backoff * math.log(10))
        self.unk = words[unk] if unk is not None and (words[unk],) in self.ngrams else None

    def logp(self, history: tuple[int, ...], word: int) -> float:
        """Return ln p(word | history)."""
        if (*history, word) in self.ngrams:
            return self.ngrams[(*history, word)][0]
        if not history:
            return -math.inf
        return self.ngrams.get(history, (0.0, 0.0))[1] + self.logp(history[1:], word)

    def costs(self, sentence: list[int]) -> list[float]:
        """Return the costs of a sentence's words and of its end."""
        history: tuple[int, ...] = (self.bos,)
        out = []
        for word in [*sentence, self.eos]:
            if (word,) not in self.ngrams and self.unk is not None:
                word = self.unk
            history = history[-(self.order - 1) :] if self.order > 1 else ()
            out.append(-self.logp(history, word))
            history = (*history, word) if math.isfinite(out[-1]) else ()
        return out


@dataclass(frozen=True)
class CarpaLayout:
    """How a ConstArpaLm is written, and what is wrong with it.

    Args:
      old: the layout before there were tokens.
      overflow_beyond: children further away than this go through the overflow table; Kaldi's value is 2 ** 30 - 1.
    """

    old: bool = False
    overflow_beyond: int = 2**30 - 1
    order: int | None = None
    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    sort_children: bool = True
    unigram_shift: int = 0
    child_shift: int = 0
    drop_overflow: bool = False


def carpa_bytes(text: str, words: dict[str, int], layout: CarpaLayout | None = None) -> bytes:
    """Return ARPA text as a ConstArpaLm, laid out as by arpa-to-const-arpa: histories in lexicographic order."""
    layout = layout or CarpaLayout()
    slow = SlowArpa(text, words)
    order = slow.order
    children: dict[tuple[int, ...], list[int]] = {}
    for ngram in slow.ngrams:
        children.setdefault(ngram[:-1], []).append(ngram[-1])
    kept = {n for n, (_, backoff) in slow.ngrams.items() if n in children or backoff != 0.0}
    inner = [n for n in slow.ngrams if len(n) == 1 or (len(n) < order and n in kept)]
    index: dict[tuple[int, ...], int] = {}
    size = 0
    for ngram in sorted(inner):
        index[ngram] = size
        size += 3 + 2 * len(children.get(ngram, []))
    states: list[int] = []
    overflow: list[int] = []
    for ngram in sorted(inner):
        logp, backoff = slow.ngrams[ngram]
        own = sorted(children.get(ngram, []), reverse=not layout.sort_children)
        states += [_bits(logp), _bits(backoff), len(own)]
        for word in own:
            child = (*ngram, word)
            if child not in index:
                states += [word, _bits(slow.ngrams[child][0]) & ~1]
            elif (distance := index[child] - index[ngram] + layout.child_shift) <= layout.overflow_beyond:
                states += [word, 2 * distance | 1]
            else:
                states += [word, -(2 * len(overflow) | 1)]
                overflow.append(index[child] + 1)
    unigrams = [index[(w,)] + 1 + layout.unigram_shift if (w,) in index else 0 for w in range(max(words.values()) + 1)]
    return _carpa_file(layout, slow, (states, unigrams, [] if layout.drop_overflow else overflow))


def _carpa_file(layout: CarpaLayout, slow: SlowArpa, tables: tuple[list[int], list[int], list[int]]) -> bytes:
    special = (layout.bos, slow.bos), (layout.eos, slow.eos), (layout.unk, -1 if slow.unk is None else slow.unk)
    info = [usual if given is None else given for given, usual in (*special, (layout.order, slow.order))]
    head = b"".join(b"\x04" + struct.pack("<i", number) for number in info)
    states, unigrams, overflow = tables
    if layout.old:
        body = [b"\0B", head, b"\x04", struct.pack("<i", len(states))]
        body += [b"\x04" + struct.pack("<i", word) for word in states]
        for table in (unigrams, overflow):
            body += [b"\x04", struct.pack("<i", len(table)), *(b"\x08" + struct.pack("<q", node) for node in table)]
        return b"".join(body)
    out = b"\0B<ConstArpaLm> <LmInfo> " + head + b"</LmInfo> <LmStates> \x08" + struct.pack("<q", len(states))
    out += struct.pack(f"<{len(states)}i", *states) + b"</LmStates> "
    for name, table in ((b"LmUnigram", unigrams), (b"LmOverflow", overflow)):
        out += b"<" + name + b"> \x04" + struct.pack("<i", len(table)) + struct.pack(f"<{len(table)}q", *table)
        out += b"</" + name + b"> "
    return out + b"</ConstArpaLm> "


def _bits(logp: float) -> int:
    """Kaldi's bits of a natural logarithm: it reads the decimal one as a float and multiplies."""
    decimal = float(np.float32(logp / math.log(10)))
    return int(np.float32(decimal * math.log(10)).view(np.int32))
