# SPDX-License-Identifier: Apache-2.0
"""Write ppl.json of an n-gram: its perplexity on Kaldi texts, counted as a neural LM's is.

    ngram_ppl.py WORDS_TXT LM OUT NAME=TEXT [NAME=TEXT ...]

LM is an ARPA file, a G.fst or a G.carpa. Words to which it gives no probability are left out, and counted on stdout.
Not here: neural LMs (`mpq lm ppl`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from kaldi_mpq import native
from kaldi_mpq.artefact import require, write_json
from kaldi_mpq.errors import MpqError
from kaldi_mpq.lm.ngram import ngram_perplexity
from kaldi_mpq.text.corpus import read_text
from kaldi_mpq.text.vocab import Vocabulary


def perplexities(words: Path, lm: Path, texts: dict[str, Path]) -> dict[str, dict[str, float | int]]:
    """Return, for each text, perplexity, summed cost in nats and tokens, sentence ends counted.

    Raises:
      MpqError: an input is missing or malformed.
    """
    require([words, lm, *texts.values()])
    vocabulary = Vocabulary.read(words, bos="<s>", eos="</s>", unk="<unk>")
    ngram = native.open_old_lm(lm, vocabulary.ids)
    report = {}
    for name, text in texts.items():
        corpus, _ = read_text(text, vocabulary)
        found = ngram_perplexity(ngram, corpus)
        print(f"{name}: {found}")
        possible = found.tokens - found.impossible
        report[name] = {"perplexity": found.value_of_possible, "nll_nats": found.nll_nats, "tokens": possible}
    return report


def main() -> int:
    """Run the command line; return its exit status."""
    if len(sys.argv) < 5 or any("=" not in word for word in sys.argv[4:]):
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    words, lm, out = (Path(word) for word in sys.argv[1:4])
    try:
        texts = {name: Path(path) for name, _, path in (word.partition("=") for word in sys.argv[4:])}
        write_json(out, perplexities(words, lm, texts))
    except MpqError as error:
        print(f"ERROR (ngram_ppl) {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
