# SPDX-License-Identifier: Apache-2.0
"""Write a Kaldi lang directory: words.txt, phones, word boundaries, topo, and the lexicon.

    prepare_lang.py DATA/local/vocabulary LANG

<unk> is a word of the LM but has no pronunciation, so that it is never recognised. Not here: G.fst (`decoding_graph`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import command
from phones import SILENCE, PhoneTable, positioned
from pronounce import pronunciations
from transition_model import write_topology

from kaldi_mpq.artefact import require, writing
from kaldi_mpq.errors import TextError

__all__ = ["read_lexicon", "write_lang"]


def write_lang(words: list[str], lang: Path) -> None:
    """Write all files of a lang directory but G.fst.

    Raises:
      TextError: there are no words.
    """
    if not words:
        raise TextError("no words for the lexicon", expected="a word per line")
    phones = PhoneTable()
    symbols = ["<eps>", *words, "<unk>", "#0", "<s>", "</s>"]
    silence = phones.ids[SILENCE]
    tables = {
        "words.txt": [f"{symbol} {number}" for number, symbol in enumerate(symbols)],
        "phones.txt": ["<eps> 0", *(f"{name} {number}" for name, number in phones.ids.items())],
        "lexicon.txt": [f"{word}\t{' '.join(positioned(each))}" for word in words for each in pronunciations(word)],
        "oov.txt": ["<unk>"],
        "oov.int": [str(symbols.index("<unk>"))],
        "phones/word_boundary.int": [f"{number} {phones.boundary(name)}" for name, number in phones.ids.items()],
        "phones/word_boundary.txt": [f"{name} {phones.boundary(name)}" for name in phones.names],
        "phones/silence.csl": [str(silence)],
        "phones/optional_silence.txt": [SILENCE],
        "phones/optional_silence.int": [str(silence)],
    }
    write_topology(lang / "topo", phones)
    for name, lines in reversed(tables.items()):  # words.txt last: it says that all is there
        with writing(lang / name) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_lexicon(lang: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Return words and pronunciations with positions, in the order of lexicon.txt."""
    require([lang / "lexicon.txt"], hint="run stage -2 first")
    lines = (line.split() for line in (lang / "lexicon.txt").read_text(encoding="utf-8").splitlines())
    return [(word, tuple(phones)) for word, *phones in lines]


def main() -> None:
    """Read the options, and write the directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vocabulary", type=Path, help="a word per line")
    parser.add_argument("lang", type=Path, help="directory to write")
    options = parser.parse_args()
    require([options.vocabulary], hint="run stage -5 first")
    write_lang(options.vocabulary.read_text(encoding="utf-8").split(), options.lang)


if __name__ == "__main__":
    command.run(main)
