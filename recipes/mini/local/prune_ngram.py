# SPDX-License-Identifier: Apache-2.0
"""Prune an ARPA file by relative entropy with kaldingram, so that a decoding graph of it is small.

    prune_ngram.py [--threshold 3e-7] IN.arpa.gz OUT.arpa.gz

Not here: its training (`mpq lm ngram`).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import io
import logging
import tempfile
from pathlib import Path

import command
from kaldingram import prune as kaldingram_prune

from kaldi_mpq.artefact import require, writing

__all__ = ["prune"]

log = logging.getLogger(__name__)


def prune(source: Path, target: Path, threshold: float) -> None:
    """Write the pruned n-gram.

    Args:
      source: gzipped ARPA file.
      target: the same.
      threshold: n-grams go whose loss raises the perplexity of the model's own text by a smaller share.
    """
    require([source], hint="run stage -2 from its beginning")
    kaldingram_prune.tqdm = functools.partial(kaldingram_prune.tqdm, disable=None)
    parser = kaldingram_prune.ArpaParser()
    with tempfile.TemporaryDirectory() as directory:
        plain = Path(directory) / "lm.arpa"
        plain.write_bytes(gzip.decompress(source.read_bytes()))
        (model,) = parser.loadf(str(plain))
        with contextlib.redirect_stdout(io.StringIO()):
            kaldingram_prune.prune(model, threshold, 1)
        parser.dumpf(model, str(plain))
        with writing(target) as temporary:
            temporary.write_bytes(gzip.compress(plain.read_bytes(), 6, mtime=0))
    log.info("%s: %s", target, ", ".join(f"{count} {order}-grams" for order, count in model.counts()))


def main() -> None:
    """Read the options, and prune."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="ARPA file, gzipped")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--threshold", type=float, default=3e-7, help="relative change of perplexity")
    options = parser.parse_args()
    prune(options.source, options.target, options.threshold)


if __name__ == "__main__":
    command.run(main)
