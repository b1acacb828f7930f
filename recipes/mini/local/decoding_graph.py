# SPDX-License-Identifier: Apache-2.0
"""G.fst of an ARPA file, and the graph to decode with: H o L o G over transition-ids, words as aux_labels.

    decoding_graph.py LANG LM.arpa.gz EXP/HLG.pt         also writes LANG/G.fst

Not here: the lexicon itself (`prepare_lang`) and decoding (`decode`).
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import logging
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import command
import k2
import kaldilm
import torch
from phones import SILENCE, PhoneTable
from prepare_lang import read_lexicon

from kaldi_mpq.artefact import require, writing

__all__ = ["build", "grammar", "lexicon_fst", "topology_fst"]

log = logging.getLogger(__name__)

SILENCE_PROBABILITY = 0.2  # before each word, and at the end
START, LOOP, PAUSE = 0, 1, 2


def grammar(lang: Path, arpa: Path) -> k2.Fsa:
    """Write LANG/G.fst as Kaldi's arpa2fst makes it, and return it."""
    with tempfile.TemporaryDirectory() as directory, writing(lang / "G.fst") as temporary:
        plain = Path(directory) / "lm.arpa"
        plain.write_bytes(gzip.decompress(arpa.read_bytes()) if arpa.suffix == ".gz" else arpa.read_bytes())
        words = str(lang / "words.txt")
        with _quiet_stderr():
            text = kaldilm.arpa2fst(str(plain), str(temporary), disambig_symbol="#0", read_symbol_table=words)
    return k2.Fsa.from_openfst(text, acceptor=False)


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep back what C++ code logs, unless it fails."""
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def lexicon_fst(lexicon: list[tuple[str, tuple[str, ...]]], words: dict[str, int], phones: PhoneTable) -> k2.Fsa:
    """Return phones to words, with optional silence; words that sound alike end in symbols of their own."""
    pause, no_pause = math.log(SILENCE_PROBABILITY), math.log(1 - SILENCE_PROBABILITY)
    ids = phones.ids
    first_symbol = len(phones.names) + 1
    arcs = [(START, LOOP, 0, 0, no_pause), (START, PAUSE, 0, 0, pause), (PAUSE, LOOP, ids[SILENCE], 0, 0.0)]
    arcs.append((LOOP, LOOP, first_symbol, words["#0"], 0.0))
    sounds: Counter[tuple[str, ...]] = Counter()
    new = PAUSE + 1
    for word, spoken in lexicon:
        sounds[spoken] += 1
        labels = [*(ids[phone] for phone in spoken), first_symbol + sounds[spoken]]
        source = LOOP
        for number, label in enumerate(labels[:-1]):
            arcs.append((source, new, label, words[word] if number == 0 else 0, 0.0))
            source, new = new, new + 1
        arcs.append((source, LOOP, labels[-1], 0, no_pause))
        arcs.append((source, PAUSE, labels[-1], 0, pause))
    arcs.append((LOOP, new, -1, -1, 0.0))
    lines = [" ".join(map(str, arc)) for arc in sorted(arcs)]
    return k2.arc_sort(k2.Fsa.from_str("\n".join([*lines, str(new)]), acceptor=False))


def topology_fst(phones: PhoneTable) -> k2.Fsa:
    """Return transition-ids to phones: a state for each phone, and only successions that words have."""
    ids = phones.ids
    arcs = []
    end = len(ids) + 1
    for name, phone in ids.items():
        arcs.append((phone, phone, phones.loop_tid(phone), 0, 0.0))
        arcs.append((phone, end, -1, -1, 0.0))
        before = [other for other in ids if (other[-2:] in ("_B", "_I")) == (name[-2:] in ("_I", "_E"))]
        sources = [ids[other] for other in before] + ([0] if name[-2:] not in ("_I", "_E") else [])
        arcs += [(source, phone, phones.first_tid(phone), phone, 0.0) for source in sources]
    lines = [" ".join(map(str, arc)) for arc in sorted(arcs)]
    return k2.arc_sort(k2.Fsa.from_str("\n".join([*lines, str(end)]), acceptor=False))


def build(lexicon: k2.Fsa, G: k2.Fsa, words: dict[str, int], phones: PhoneTable) -> k2.Fsa:
    """Return H o det(L o G), arcs sorted; lm_scores are its scores."""
    LG = k2.connect(k2.compose(lexicon, k2.arc_sort(G)))
    LG = k2.connect(k2.determinize(LG, k2.DeterminizeWeightPushingType.kLogWeightPushing))
    log.info("LG: %d states, %d arcs", LG.shape[0], LG.num_arcs)
    labels = LG.labels.clone()
    labels[labels > len(phones.names)] = 0
    LG.labels = labels
    LG.aux_labels.values[LG.aux_labels.values >= words["#0"]] = 0
    LG = k2.connect(k2.remove_epsilon(LG))
    LG.aux_labels = LG.aux_labels.remove_values_eq(0)
    HLG = k2.connect(k2.compose(topology_fst(phones), k2.arc_sort(LG), inner_labels="phones"))
    del HLG.phones
    HLG = k2.arc_sort(HLG)
    HLG.lm_scores = HLG.scores.clone()
    log.info("HLG: %d states, %d arcs", HLG.shape[0], HLG.num_arcs)
    return HLG


def main() -> None:
    """Read the options, and write both graphs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lang", type=Path, help="lang directory; G.fst is written into it")
    parser.add_argument("arpa", type=Path, help="n-gram")
    parser.add_argument("out", type=Path, help="file to write")
    options = parser.parse_args()
    require([options.lang / "words.txt", options.arpa], hint="run the stages before this one first")
    words = {}
    for line in (options.lang / "words.txt").read_text(encoding="utf-8").splitlines():
        word, number = line.split()
        words[word] = int(number)
    phones = PhoneTable()
    HLG = build(
        lexicon_fst(read_lexicon(options.lang), words, phones), grammar(options.lang, options.arpa), words, phones
    )
    with writing(options.out) as temporary:
        torch.save(HLG.as_dict(), temporary)


if __name__ == "__main__":
    command.run(main)
