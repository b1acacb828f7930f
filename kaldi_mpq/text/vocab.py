# SPDX-License-Identifier: Apache-2.0
"""Kaldi's words.txt, checked line by line.

    <eps> 0
    a 1
    ...
    <s> 11867
    </s> 11868

Not here: texts. A language model's word ids are these ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kaldi_mpq.artefact import require
from kaldi_mpq.errors import VocabularyError
from kaldi_mpq.settings import nearest

__all__ = ["Vocabulary", "check_same", "read_words"]


@dataclass(frozen=True)
class Vocabulary:
    """Words by id, and the ids of the three symbols that a language model needs.

    Args:
      words: word of each id; ``words[0]`` is ``<eps>``.
      bos, eos, unk: ids of the sentence start, the sentence end and the unknown word.
    """

    words: tuple[str, ...]
    bos: int
    eos: int
    unk: int
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", {word: number for number, word in enumerate(self.words)})

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def read(cls, path: str | Path, *, bos: str = "<s>", eos: str = "</s>", unk: str = "<unk>") -> Vocabulary:
        """Read words.txt (lines in any order) and find its special symbols.

        Raises:
          MissingInputError: no such file.
          VocabularyError: naming the line: not two fields, a bad or repeated id or word, ids with a gap, ``<eps>``
            not 0, DOS line ends, bytes that are not UTF-8; or a special symbol is absent.
        """
        words = read_words(Path(path))
        ids = {word: number for number, word in enumerate(words)}
        special = [_find(ids, symbol, option, path) for symbol, option in ((bos, "bos"), (eos, "eos"), (unk, "unk"))]
        return cls(tuple(words), *special)

    def to_bytes(self) -> bytes:
        """Return the file in its canonical form: sorted by id, one space, final newline."""
        return _written(self.words)

    def sha256(self) -> str:
        """Return the hash of the canonical form: what a model says it was trained with."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def check_same(ours: Vocabulary, theirs: Vocabulary, *, ours_name: object, theirs_name: object) -> None:
    """Raise VocabularyError with both sizes and the first difference unless both have the same words by id."""
    if ours.words == theirs.words:
        return
    shorter = min(len(ours), len(theirs))
    first = next((i for i in range(shorter) if ours.words[i] != theirs.words[i]), shorter)

    def word(vocabulary: Vocabulary) -> str:
        return repr(vocabulary.words[first]) if first < len(vocabulary) else "nothing"

    sizes = f"{ours_name}: {len(ours)} words, {theirs_name}: {len(theirs)} words"
    raise VocabularyError(
        f"vocabularies differ ({sizes}), first at id {first}",
        expected=f"{word(ours)} as in {ours_name}",
        found=f"{word(theirs)} in {theirs_name}",
        hint="rescore with the words.txt that the LM was trained with",
    )


def read_words(path: Path) -> list[str]:
    """Return the words of a words.txt by id; raises as `Vocabulary.read` does, special symbols aside."""
    require([path], hint="it is data/lang*/words.txt of a Kaldi recipe")
    content = path.read_bytes()
    words = [line.partition(b" ")[0].decode("utf-8", "replace") for line in content.split(b"\n")[:-1]]
    if words[:1] == ["<eps>"] and len({"", *words}) == len(words) + 1 and content == _written(words):
        return words  # as most are, sorted by id: reading them costs a third then, and a job reads several
    return _read_lines(content, path)


def _written(words: Sequence[str]) -> bytes:
    return "".join(f"{word} {number}\n" for number, word in enumerate(words)).encode("utf-8")


def _read_lines(content: bytes, path: Path) -> list[str]:
    words: dict[int, str] = {}
    seen: dict[str, int] = {}
    for number, raw in enumerate(content.split(b"\n"), start=1):
        if not raw:
            continue
        where = f"{path}:{number}"
        if raw.endswith(b"\r"):
            raise VocabularyError("DOS line end (CR LF)", where=where, hint="convert the file with dos2unix")
        try:
            fields = raw.decode("utf-8").split(" ")
        except UnicodeDecodeError as error:
            raise VocabularyError("not UTF-8", where=where, found=str(error)) from error
        if len(fields) != 2 or not fields[0] or not fields[1].isdecimal():
            line = repr(" ".join(fields))
            raise VocabularyError("bad line", where=where, expected="'word id' with one space", found=line)
        word, index = fields[0], int(fields[1])
        if index in words:
            raise VocabularyError(f"id {index} is used twice", where=where, found=f"{words[index]!r} and {word!r}")
        if word in seen:
            raise VocabularyError(f"word {word!r} is there twice", where=where, found=f"also at line {seen[word]}")
        words[index], seen[word] = word, number
    if not words:
        raise VocabularyError("no words", where=path)
    gap = next((i for i in range(len(words)) if i not in words), None)
    if gap is not None:
        raise VocabularyError("ids have a gap", where=path, expected=f"ids 0 to {max(words)}", found=f"no id {gap}")
    if words[0] != "<eps>":
        raise VocabularyError("id 0 is not <eps>", where=path, found=repr(words[0]))
    return [words[index] for index in range(len(words))]


def _find(ids: dict[str, int], symbol: str, option: str, path: str | Path) -> int:
    if symbol in ids:
        return ids[symbol]
    lookalike = next((word for word in ids if word.lower() == symbol.lower()), None)
    near = nearest(symbol, ids)  # all words where none is near: too many to print
    hint = f"name it with --{option}" + (f"; {near}" if len(near) < 300 else "")
    if lookalike:
        hint = f"it has {lookalike!r}: use --{option} '{lookalike}'"
    raise VocabularyError(f"no symbol {symbol!r}", where=path, hint=hint)
