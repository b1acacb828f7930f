# SPDX-License-Identifier: Apache-2.0
"""How far packed kernels and the cheap denominator are from the unpacked model, over a text.

    python benchmarks/denominator_error.py --text data/dev/text --sentences 200 model.mpq ...

Words and sentence ends of every so-manieth sentence are scored by the model unpacked to float32, and packed: with
16-bit activations, the denominator exact and cheap, and with 8-bit ones. Prints the differences of a word's
log-probability and of a sentence's mean in nats, and of cheap log Z (same histories, same logits) from exact log Z.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import kaldi_mpq  # noqa: F401  sets MKL_DEBUG_CPU_TYPE before torch loads

# isort: split
import numpy as np
import torch

from kaldi_mpq.pack.load import open_lm, words_of
from kaldi_mpq.rescore.tree_scores import score_hypotheses
from kaldi_mpq.text.vocab import read_words

KINDS = (("packed", "exact"), ("packed", "cheap"), ("packed8", "exact"))


def main() -> None:
    """Measure and print."""
    options = parse()
    torch.set_num_threads(1)
    for path in options.lm:
        measure(path, options)


def measure(path: Path, options: argparse.Namespace) -> None:
    """Print the errors of one model."""
    model = open_lm(path)
    offsets, words = sentences(path, options, model.config.unk)
    lists = (np.array([0, len(offsets) - 1]), offsets, words)
    expected = score_hypotheses(model, *lists, 8192)
    print(f"{path}: {len(offsets) - 1} sentences, {len(words)} words")
    costs = {}
    for kernel, denominator in KINDS:
        found = costs[kernel, denominator] = score_hypotheses(open_lm(path, kernel, denominator), *lists, 8192)
        error = np.r_[expected.word - found.word, expected.final - found.final]
        owner = np.r_[np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), np.arange(len(offsets) - 1)]
        means = np.bincount(owner, error) / np.bincount(owner)
        print(f"  {kernel:<8} {denominator:<6} word {summary(error)}; mean of a sentence {summary(means)}")
    exact, cheap = costs["packed", "exact"], costs["packed", "cheap"]
    print(f"  cheap log Z alone: {summary(np.r_[cheap.word - exact.word, cheap.final - exact.final])}")


def summary(error: np.ndarray) -> str:
    """Return mean, root mean square and largest magnitude."""
    return f"mean {error.mean():+.1e}, rms {np.sqrt(np.mean(error**2)):.1e}, largest {np.abs(error).max():.1e}"


def sentences(path: Path, options: argparse.Namespace, unk: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (P + 1,) offsets and the word ids of P sentences of a Kaldi text file."""
    ids = {word: number for number, word in enumerate(read_words(words_of(path)))}
    lines = options.text.read_text(encoding="utf-8").splitlines()
    chosen = lines[:: max(1, len(lines) // options.sentences)]
    found = [[ids.get(word, unk) for word in line.split()[1:]] for line in chosen]
    return np.r_[0, np.cumsum([len(one) for one in found])], np.concatenate(found).astype(np.int64)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lm", type=Path, nargs="+", help="packed LMs")
    parser.add_argument("--text", type=Path, required=True, help="Kaldi text: an id and words a line")
    parser.add_argument("--sentences", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
