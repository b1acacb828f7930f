# SPDX-License-Identifier: Apache-2.0
"""``mpq text``: words.txt and texts in, ids and statistics out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from kaldi_mpq.artefact import require, stamp, write_json, writing
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.corpus import read_text
from kaldi_mpq.text.settings import TextSettings
from kaldi_mpq.text.vocab import Vocabulary

__all__ = ["prepare_text"]


def prepare_text(settings: TextSettings) -> str:
    """Write ``OUT/{words.txt,train.ids,dev.ids,NAME.ids,stats.json}``; return one line of statistics per text.

    Raises:
      MissingInputError: naming every input that is not there.
      VocabularyError, TextError: naming the first bad line.
    """
    texts = {"train": settings.train, "dev": settings.dev, **_named(settings.test)}
    require([settings.words, *texts.values()])
    vocabulary = Vocabulary.read(settings.words, bos=settings.bos, eos=settings.eos, unk=settings.unk)
    stats = {}
    for name, path in texts.items():
        corpus, stats[name] = read_text(path, vocabulary)
        corpus.save(settings.out / f"{name}.ids")
    with writing(settings.out / "words.txt") as temporary:
        temporary.write_bytes(vocabulary.to_bytes())
    write_json(
        settings.out / "stats.json",
        {
            "vocabulary": {"size": len(vocabulary), "sha256": vocabulary.sha256()},
            "symbols": {"bos": settings.bos, "eos": settings.eos, "unk": settings.unk},
            "texts": {name: asdict(value) for name, value in stats.items()},
            "stamp": stamp("text", as_plain(settings), [settings.words]),
        },
    )
    return "\n".join(f"{name}: {value}" for name, value in stats.items())


def _named(words: tuple[str, ...]) -> dict[str, Path]:
    named = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not name or not path or name in ("train", "dev"):
            raise ConfigError("bad value for test", expected="NAME=FILE, NAME neither train nor dev", found=word)
        if name in named:
            raise ConfigError(f"test set {name!r} is named twice", found=f"{named[name]} and {path}")
        named[name] = Path(path)
    return named
