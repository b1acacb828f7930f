# SPDX-License-Identifier: Apache-2.0
"""The part of an n-gram LM (G.fst, ARPA) that a set of word lattices can ask for, costs untouched.

Every word string of the lattices meets exactly the arcs, n-grams and back-off weights that it meets in the whole LM.
Not here: anything about other strings; the subset is no distribution.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

HEADER = struct.Struct("<i i6s i8s iiQqqq")  # magic, types, version, flags, properties, start, states, arcs
ARC = struct.Struct("<iifi")  # input label, output label, cost, next state
FINAL = struct.Struct("<fq")  # final cost, number of arcs
EXPANDED_MUTABLE = 3  # the only property bits that are true whatever the machine looks like

Arc = tuple[int, int, float, int]


@dataclass(frozen=True)
class Acceptor:
    """Word strings as a graph: state -> (word id, or 0 for none; next state); state 0 starts.

    Args:
      arcs: of each state.
      final: states where a string may end.
    """

    arcs: Mapping[int, list[tuple[int, int]]]
    final: frozenset[int]

    @classmethod
    def from_kaldi_text(cls, record: str) -> Acceptor:
        """Return the words of a CompactLattice in Kaldi's text form, key line included."""
        arcs: dict[int, list[tuple[int, int]]] = {}
        final = set()
        for line in record.strip("\n").split("\n")[1:]:
            fields = line.split()
            if len(fields) <= 2:
                final.add(int(fields[0]))
            else:
                arcs.setdefault(int(fields[0]), []).append((int(fields[2]), int(fields[1])))
        return cls(arcs, frozenset(final))

    @classmethod
    def from_words(cls, words: list[int]) -> Acceptor:
        """Return the acceptor of one string."""
        return cls({i: [(word, i + 1)] for i, word in enumerate(words)}, frozenset([len(words)]))


def read_fst(content: bytes) -> tuple[int, list[tuple[float, list[Arc]]]]:
    """Return start state and, per state, (final cost, arcs) of a binary OpenFst vector FST over standard arcs."""
    _, _, kind, _, arc_type, _, flags, _, start, states, _ = HEADER.unpack_from(content)
    if kind != b"vector" or arc_type != b"standard" or flags != 0:
        raise SystemExit(f"not a plain vector FST of standard arcs: {kind!r} {arc_type!r} flags {flags}")
    position, found = HEADER.size, []
    for _ in range(states):
        final, count = FINAL.unpack_from(content, position)
        position += FINAL.size
        found.append((final, list(ARC.iter_unpack(content[position : position + count * ARC.size]))))
        position += count * ARC.size
    return start, found


def write_fst(start: int, states: list[tuple[float, list[Arc]]]) -> bytes:
    """Return a binary OpenFst vector FST."""
    head = (2125659606, 6, b"vector", 8, b"standard", 2, 0, EXPANDED_MUTABLE, start, len(states), 0)
    parts = [HEADER.pack(*head)]
    for final, arcs in states:
        parts.append(FINAL.pack(final, len(arcs)))
        parts += [ARC.pack(*arc) for arc in arcs]
    return b"".join(parts)


def fst_subset(content: bytes, acceptors: Iterable[Acceptor], backoff: int) -> bytes:
    """Return G.fst with only the arcs that some path of some acceptor can use, states renumbered in order.

    Both readings are kept: wherever a word's arc is used, the back-off arc (input label ``backoff``) is kept as well.
    """
    start, states = read_fst(content)
    by_word = [{arc[1]: i for i, arc in enumerate(arcs) if arc[0] != backoff} for _, arcs in states]
    back = [next((i for i, arc in enumerate(arcs) if arc[0] == backoff), None) for _, arcs in states]
    used: set[tuple[int, int]] = set()
    visited = {start}
    for acceptor in acceptors:
        queue, seen = [(0, start)], {(0, start)}
        while queue:
            here, state = queue.pop()
            visited.add(state)
            steps = [(here, back[state])] if back[state] is not None else []
            following = []
            for word, there in acceptor.arcs.get(here, []):
                if word == 0:
                    following.append((there, state))
                elif word in by_word[state]:
                    steps.append((there, by_word[state][word]))
            for there, index in steps:
                used.add((state, index))
                following.append((there, states[state][1][index][3]))
            queue += [pair for pair in following if pair not in seen]
            seen.update(following)
    number = {state: i for i, state in enumerate(sorted(visited))}
    return write_fst(number[start], [
        (states[state][0], [(*arc[:3], number[arc[3]]) for i, arc in enumerate(states[state][1]) if (state, i) in used])
        for state in sorted(visited)
    ])  # fmt: skip


def projected(content: bytes) -> bytes:
    """Return the FST with output labels on both sides, as Kaldi's lattice programs want it, arcs sorted by label."""
    start, states = read_fst(content)
    return write_fst(start, [(final, sorted((o, o, c, n) for _, o, c, n in arcs)) for final, arcs in states])


def ngrams_of(acceptors: Iterable[Acceptor], words: Mapping[str, int], order: int) -> set[tuple[str, ...]]:
    """Return every n-gram up to ``order`` on paths of the acceptors, with <s> before and </s> after, and <unk>."""
    symbols = {number: symbol for symbol, number in words.items()}
    found: set[tuple[str, ...]] = {("<unk>",)}
    for acceptor in acceptors:
        queue: list[tuple[int, tuple[str, ...]]] = [(0, ("<s>",))]
        seen = set(queue)
        while queue:
            here, history = queue.pop()
            found.update(history[i:] for i in range(len(history)))
            following = [(there, _extend(history, symbols[word], order) if word else history)
                         for word, there in acceptor.arcs.get(here, [])]  # fmt: skip
            if here in acceptor.final:
                ended = _extend(history, "</s>", order)
                found.update(ended[i:] for i in range(len(ended)))
            queue += [pair for pair in following if pair not in seen]
            seen.update(following)
    return found


def _extend(history: tuple[str, ...], word: str, order: int) -> tuple[str, ...]:
    return (*history, word)[-order:]


def arpa_subset(lines: Iterable[str], asked: set[tuple[str, ...]]) -> str:
    """Return the ARPA file with only the n-grams in ``asked``; their lines are copied as they are.

    A history that goes on in the whole LM goes on here too, if need be with one n-gram that nobody asks for: Kaldi's
    const-arpa format forgets the back-off weight of a history without any.
    """
    entries = [(tuple(line.split()[1 : 1 + order]), line) for order, line in _entries(lines)]
    asked = asked | _continuations([ngram for ngram, _ in entries], asked)
    kept: dict[int, list[str]] = {}
    for ngram, line in entries:
        if ngram in asked:
            kept.setdefault(len(ngram), []).append(line)
    parts = ["\\data\\", *(f"ngram {order}={len(found)}" for order, found in kept.items())]
    for order, found in kept.items():
        parts += ["", f"\\{order}-grams:", *found]
    return "\n".join([*parts, "", "\\end\\", ""])


def _continuations(ngrams: list[tuple[str, ...]], asked: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Return one n-gram, with all its suffixes, for every history in ``asked`` that none in ``asked`` continues."""
    continued = {ngram[:-1] for ngram in ngrams if ngram in asked}
    chosen: dict[tuple[str, ...], tuple[str, ...]] = {}
    for ngram in ngrams:
        history = ngram[:-1]
        if history and history in asked and history not in continued:
            known = ngram[1:] in asked  # rather one whose suffixes are there anyway
            if history not in chosen or (known and chosen[history][1:] not in asked):
                chosen[history] = ngram
    return {ngram[i:] for ngram in chosen.values() for i in range(len(ngram))}


def _entries(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    order = 0
    for line in lines:
        line = line.rstrip("\n")
        if line.startswith("\\") and line.endswith("-grams:"):
            order = int(line[1 : -len("-grams:")])
        elif order and line and not line.startswith("\\"):
            yield order, line
