# SPDX-License-Identifier: Apache-2.0
"""Write data/{train,dev,eval,am_train}/text and utt2spk, and data/local/vocabulary, from the package chitchat-dataset.

    prepare_text.py [--test 300] [--am-train 3000] [--vocabulary 8000] OUT

dev and eval have whole stretches of conversations, am_train single utterances of train. Not here: speech (`speak`).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import command
from conversations import Utterance, dataset_file, read_conversations, set_of
from kaldi_tables import write_table

from kaldi_mpq.artefact import writing
from kaldi_mpq.errors import TextError

__all__ = ["choose_spoken", "choose_vocabulary", "write_sets"]

log = logging.getLogger(__name__)

MIN_WORDS, MAX_WORDS = 3, 18  # of a spoken utterance: shorter ones say little, longer ones are slow to decode
MAX_LETTERS = 20  # of a word in it: longer ones are keys held down
PER_CONVERSATION = 15


def _order(name: str) -> str:
    """Return what sorts names by chance, and always alike."""
    return hashlib.sha256(f"mini {name}".encode()).hexdigest()


def is_speakable(utterance: Utterance) -> bool:
    """Return whether an utterance has a length to be spoken and recognised."""
    return MIN_WORDS <= len(utterance.words) <= MAX_WORDS and max(map(len, utterance.words)) <= MAX_LETTERS


def choose_spoken(conversations: Mapping[str, Sequence[Utterance]], size: int, each: int) -> list[Utterance]:
    """Return ``size`` utterances, the first ``each`` of conversations that are taken in an order by chance.

    Raises:
      TextError: there are not so many.
    """
    chosen: list[Utterance] = []
    for name in sorted(conversations, key=_order):
        chosen += [utterance for utterance in conversations[name] if is_speakable(utterance)][:each]
        if len(chosen) >= size:
            return chosen[:size]
    raise TextError(
        "too few utterances to speak", expected=f"{size} of {MIN_WORDS} to {MAX_WORDS} words", found=len(chosen)
    )


def choose_vocabulary(utterances: Iterable[Utterance], size: int) -> list[str]:
    """Return the ``size`` most frequent words, sorted."""
    counts = Counter(word for utterance in utterances for word in utterance.words if len(word) <= MAX_LETTERS)
    return sorted(sorted(counts, key=lambda word: (-counts[word], word))[:size])


def write_sets(sets: Mapping[str, Iterable[Utterance]], out: Path) -> None:
    """Write text and utt2spk of each set."""
    for name, utterances in sets.items():
        chosen = list(utterances)
        write_table(out / name / "utt2spk", ((each.key, each.speaker) for each in chosen))
        write_table(out / name / "text", ((each.key, " ".join(each.words)) for each in chosen))


def main() -> None:
    """Read the options, and write the sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="data directory to write")
    parser.add_argument("--test", type=int, default=300, help="utterances each of dev and eval")
    parser.add_argument("--am-train", type=int, default=3000, help="utterances to train the acoustic model on")
    parser.add_argument("--vocabulary", type=int, default=8000, help="words")
    options = parser.parse_args()
    conversations = read_conversations(dataset_file())
    parts: dict[str, dict[str, list[Utterance]]] = {"train": {}, "dev": {}, "eval": {}}
    for name, utterances in conversations.items():
        parts[set_of(name)][name] = utterances
    train = [utterance for utterances in parts["train"].values() for utterance in utterances]
    vocabulary = choose_vocabulary(train, options.vocabulary)
    with writing(options.out / "local" / "vocabulary") as temporary:
        temporary.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    sets = {name: choose_spoken(parts[name], options.test, PER_CONVERSATION) for name in ("dev", "eval")}
    sets |= {"am_train": choose_spoken(parts["train"], options.am_train, 1), "train": train}
    write_sets(sets, options.out)
    known = set(vocabulary)
    spoken = [word for name in ("dev", "eval") for utterance in sets[name] for word in utterance.words]
    rate = sum(word not in known for word in spoken) / len(spoken)
    log.info("%d conversations, %d training utterances, %d words; %.1f%% of the spoken words are out of vocabulary",
             len(conversations), len(train), len(vocabulary), 100 * rate)  # fmt: skip


if __name__ == "__main__":
    command.run(main)
