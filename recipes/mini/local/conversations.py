# SPDX-License-Identifier: Apache-2.0
"""The conversations of the package chitchat-dataset, and to which set each belongs.

Not here: which of their utterances are spoken (`prepare_text`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from normalise import normalise

from kaldi_mpq.errors import ConfigError, MissingInputError, TextError

__all__ = ["Utterance", "dataset_file", "read_conversations", "set_of"]

_REINSTALL = "install the pinned packages again: make env (or pip install --force-reinstall --no-deps chitchat-dataset)"


@dataclass(frozen=True)
class Utterance:
    """One message.

    Args:
      key: conversation-side-number: sorted, the sides of a conversation follow each other.
      speaker: conversation-side.
      words: normalised, at least one.
    """

    key: str
    speaker: str
    words: tuple[str, ...]


def dataset_file() -> Path:
    """Return where the data of the installed package are.

    Raises:
      ConfigError, MissingInputError: there is no such package, or it has no data.
    """
    found = importlib.util.find_spec("chitchat_dataset")
    if found is None or found.origin is None:
        raise ConfigError("no package chitchat-dataset, from which the text comes", hint=_REINSTALL)
    path = Path(found.origin).parent / "dataset.json"
    if not path.is_file():
        raise MissingInputError([path], hint=f"the package chitchat-dataset is there without its data: {_REINSTALL}")
    return path


def read_conversations(path: Path) -> dict[str, list[Utterance]]:
    """Return the conversations by their ids, sorted, utterances in the order in which they were typed.

    A conversation that has no words after normalisation is left out.

    Raises:
      TextError: the file is cut off, is no such data, or no words are left.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        sides = {name: [message for turn in data[name]["messages"] for message in turn] for name in sorted(data)}
        found = {name: _utterances(name, messages) for name, messages in sides.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TextError(
            "not the data of chitchat-dataset, or only a part", where=path, found=error, hint=_REINSTALL
        ) from error
    conversations = {name: utterances for name, utterances in found.items() if utterances}
    if not conversations:
        raise TextError("no words are left after normalisation", where=path, expected="messages with letters or digits")
    return conversations


def _utterances(conversation: str, messages: list[dict[str, str]]) -> list[Utterance]:
    letters: dict[str, str] = {}
    found = []
    for number, message in enumerate(messages):
        side = letters.setdefault(message["sender"], chr(ord("a") + min(len(letters), 25)))
        words = normalise(message["text"])
        if words:
            speaker = f"{conversation[:8]}-{side}"
            found.append(Utterance(f"{speaker}-{number:04d}", speaker, tuple(words)))
    return found


def set_of(conversation: str) -> str:
    """Return train, dev or eval: by a hash of the id, so that it stays whatever else is in the data."""
    number = int(hashlib.sha256(conversation.encode()).hexdigest(), 16) % 100
    return {0: "dev", 1: "dev", 2: "eval", 3: "eval"}.get(number, "train")
