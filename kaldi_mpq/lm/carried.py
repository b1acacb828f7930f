# SPDX-License-Identifier: Apache-2.0
"""What each of several conversations has left a model with, and so what their next utterances start from.

As in training with the conversation as context (`batches.conversation_batches`), the start symbol and the words of
every utterance are fed one after the other, the end symbol never is. An LSTM keeps its state; a transformer, whose
context is a window of words, reads as many of the last words again as the window has room for before the utterance.
Only words are fed: no state ever runs through the padding of a batch.

Not here: which utterances these are, and what is said in them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kaldi_mpq.lm.lstm import LstmState
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.transformer import TransformerLm, TransformerState

__all__ = ["Carried", "carried"]


class Carried(ABC):
    """The contexts of C conversations."""

    @abstractmethod
    def states(self, rows: np.ndarray, room: np.ndarray) -> Any:
        """Return the model's states before the start symbol of the next utterance of N conversations.

        Args:
          rows: (N,) int64, which conversations.
          room: (N,) int64, words that will be fed from there at most, the start symbol counted.
        """

    @abstractmethod
    def feed(self, rows: np.ndarray, sentences: Sequence[np.ndarray]) -> None:
        """Add an utterance, without boundary symbols, to each of N different conversations."""


def carried(model: LanguageModel, count: int, window: int) -> Carried:
    """Return the contexts of ``count`` conversations that nothing has been said in.

    Args:
      window: positions that a transformer sees, as in training.
    """
    if isinstance(model, TransformerLm):
        return _CarriedWords(model, count, window)
    return _CarriedState(model, count)


class _CarriedState(Carried):
    """An LSTM's hidden and cell vectors, (L, C, H)."""

    def __init__(self, model: LanguageModel, count: int) -> None:
        self._model = model
        state = model.start(count)
        self._hidden, self._cell = state.hidden.clone(), state.cell.clone()

    def states(self, rows: np.ndarray, room: np.ndarray) -> LstmState:
        """See Carried."""
        del room
        chosen = torch.from_numpy(rows).to(self._hidden.device)
        return LstmState(self._hidden[:, chosen], self._cell[:, chosen])

    @torch.inference_mode()
    def feed(self, rows: np.ndarray, sentences: Sequence[np.ndarray]) -> None:
        """See Carried."""
        fed = [np.concatenate([[self._model.config.bos], words]).astype(np.int64) for words in sentences]
        lengths = np.array([len(words) for words in fed])
        done = 0
        for length in np.unique(lengths).tolist():  # all that go on, up to where the next one ends
            alive = np.flatnonzero(lengths >= length)
            words = torch.from_numpy(np.stack([fed[i][done:length] for i in alive])).to(self._hidden.device)
            chosen = torch.from_numpy(rows[alive]).to(self._hidden.device)
            _, state = self._model(words, LstmState(self._hidden[:, chosen], self._cell[:, chosen]))
            self._hidden[:, chosen], self._cell[:, chosen] = state.hidden, state.cell
            done = length


class _CarriedWords(Carried):
    """The last words that a transformer's window has room for."""

    def __init__(self, model: TransformerLm, count: int, window: int) -> None:
        self._model = model
        self._window = window
        self._words = [np.empty(0, np.int64) for _ in range(count)]

    @torch.inference_mode()
    def states(self, rows: np.ndarray, room: np.ndarray) -> TransformerState:
        """See Carried."""
        free = np.maximum(self._window - room, 0).tolist()
        prefixes = [self._words[row][max(0, len(self._words[row]) - free[i]) :] for i, row in enumerate(rows.tolist())]
        lengths = np.array([len(words) for words in prefixes])
        words = np.zeros((len(rows), int(lengths.max(initial=0))), np.int64)
        for i, prefix in enumerate(prefixes):
            words[i, : len(prefix)] = prefix
        device = self._model.output.bias.device
        return self._model.after(torch.from_numpy(words).to(device), torch.from_numpy(lengths).to(device))

    def feed(self, rows: np.ndarray, sentences: Sequence[np.ndarray]) -> None:
        """See Carried."""
        for row, words in zip(rows.tolist(), sentences, strict=True):
            both = np.concatenate([self._words[row], [self._model.config.bos], words]).astype(np.int64)
            self._words[row] = both[-self._window :]
