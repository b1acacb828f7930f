# SPDX-License-Identifier: Apache-2.0
"""Carried contexts against one pass over all that was said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kaldi_mpq.lm.carried import carried

BOS = 21
SAID = [[[3, 4, 5], [], [7]], [[9]], [[2, 2, 2, 2, 2, 2, 2, 2], [4], [5, 6]]]  # utterances of three conversations


def feed_all(context) -> None:
    """Say everything, in turns in which not all conversations take part, longest and shortest side by side."""
    for turn in range(3):
        rows = np.array([row for row, said in enumerate(SAID) if len(said) > turn][::-1])
        context.feed(rows, [np.array(SAID[row][turn], np.int32) for row in rows])


def tokens(row: int) -> list[int]:
    """Return what a model has read of a conversation."""
    return [token for words in SAID[row] for token in (BOS, *words)]


@pytest.mark.parametrize("kind", ["lstm", "lstm-projected"])
def test_an_lstms_state_is_that_after_its_own_words(make_model, kind):
    """Kaldi lets pad symbols of the batch run through it; here it is what the conversation alone gives."""
    model = make_model(kind)
    context = carried(model, 3, 70)
    feed_all(context)
    states = context.states(np.array([2, 0, 1]), np.array([1, 1, 1]))
    for place, row in enumerate([2, 0, 1]):
        with torch.no_grad():
            _, alone = model(torch.tensor([tokens(row)]))
        torch.testing.assert_close(states.hidden[:, place], alone.hidden[:, 0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states.cell[:, place], alone.cell[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["transformer-pre", "transformer-post"])
@pytest.mark.parametrize("window", [5, 9, 70])
def test_a_transformer_reads_the_last_words_that_its_window_has_room_for(make_model, kind, window):
    """The next utterance gets what one pass over the end of the conversation and the utterance gives."""
    model = make_model(kind)
    context = carried(model, 3, window)
    feed_all(context)
    room = np.array([3, 4, 2])
    state = context.states(np.array([0, 1, 2]), room)
    said = [BOS, 8]
    with torch.no_grad():
        for word in said:
            hidden, state = model.advance(state, torch.arange(3), torch.full((3,), word))
        for row in range(3):
            free = max(0, window - int(room[row]))
            before = tokens(row)[max(0, len(tokens(row)) - free) :]
            alone, _ = model(torch.tensor([[*before, *said]]))
            torch.testing.assert_close(hidden[row], alone[0, -1], atol=1e-4, rtol=1e-4)


def test_before_anything_is_said_there_is_no_context(make_model, kind):
    """The first utterance starts as every utterance does without context."""
    model = make_model(kind)
    state = carried(model, 2, 70).states(np.array([0, 1]), np.array([5, 5]))
    bos = torch.full((2,), BOS)
    with torch.no_grad():
        found, _ = model.advance(state, torch.arange(2), bos)
        expected, _ = model.advance(model.start(2), torch.arange(2), bos)
    torch.testing.assert_close(found, expected)
