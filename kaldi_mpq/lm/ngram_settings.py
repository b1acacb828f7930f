# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq lm ngram``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import setting

__all__ = ["NgramSettings"]


@dataclass(frozen=True)
class NgramSettings:
    """Train a Kneser-Ney n-gram language model, the baseline, and write it as an ARPA file.

    Its vocabulary is words.txt: other words of the text count as the unknown word, and words that the text lacks get
    the probability of a word seen once. A million words of text need about 25 s and 0.5 GB of memory for 3-grams, 50 s
    and 1.3 GB for 4-grams.
    """

    out: Path = setting(help="ARPA file to write; gzipped if it ends in .gz", positional=True)
    text: Path = setting(help="text to train on")
    words: Path = setting(help="Kaldi's words.txt")
    order: int = setting(3, help="n of the n-grams", choices=(2, 3, 4, 5))
    utterance_ids: bool = setting(True, help="the texts are Kaldi text files; false: plain sentences, one per line")
    min_counts: tuple[int, ...] = setting((), help="leave out rarer n-grams: least counts of 1-grams,2-grams,...")
    dev: Path | None = setting(None, help="text to print the perplexity of")
    bos: str = setting("<s>", help="sentence start symbol in words.txt")
    eos: str = setting("</s>", help="sentence end symbol in words.txt")
    unk: str = setting("<unk>", help="symbol that out-of-vocabulary words are replaced by")

    def __post_init__(self) -> None:
        if len(self.min_counts) > self.order or any(count < 0 for count in self.min_counts):
            raise ConfigError("bad value for min_counts", expected=f"up to {self.order} numbers", found=self.min_counts)
        if self.bos == self.eos:
            raise ConfigError("an n-gram needs different boundary symbols", found=f"bos and eos {self.bos!r}")
