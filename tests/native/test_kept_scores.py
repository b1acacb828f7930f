# SPDX-License-Identifier: Apache-2.0
"""Scores of hypotheses survive their file, keep together when picked and joined, and damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaldi_mpq.errors import MissingInputError, ScoringError
from kaldi_mpq.native.kept_scores import KeptScores


def make(shape: list[list[int]], first: int = 0) -> KeptScores:
    """Return scores of utterances with paths of given numbers of words, every number a different one."""
    paths = [length for utterance in shape for length in utterance]
    count = len(paths)
    numbers = np.arange(first, first + 5 * count, dtype=float)
    return KeptScores(
        keys=np.array([f"utt-ä{first + i}" for i in range(len(shape))], str),
        unchanged=np.arange(len(shape)) % 2 == 1,
        lattice_offsets=np.cumsum([0, *map(len, shape)]).astype(np.int64),
        word_offsets=np.cumsum([0, *paths]).astype(np.int64),
        words=np.arange(first, first + sum(paths), dtype=np.int32),
        graph=numbers[:count],
        acoustic=numbers[count : 2 * count],
        old=numbers[2 * count : 3 * count],
        terms=numbers[3 * count :].reshape(2, count),
        info={"fusion": {"old_weight": 0.5}, "inv_acwt": 10.0},
    )


def rows(kept: KeptScores) -> list[tuple]:
    """Return everything about each utterance."""
    found = []
    for i, key in enumerate(kept.keys):
        for path in range(kept.lattice_offsets[i], kept.lattice_offsets[i + 1]):
            words = kept.words[kept.word_offsets[path] : kept.word_offsets[path + 1]]
            costs = kept.graph[path], kept.acoustic[path], kept.old[path], *kept.terms[:, path]
            found.append((str(key), bool(kept.unchanged[i]), words.tolist(), costs))
        found.append((str(key), "end"))
    return found


SHAPES = st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=5)


@given(SHAPES, SHAPES, st.randoms())
def test_utterances_keep_what_is_theirs(one, other, random):
    """Joined and picked in any order, every utterance has its own paths, words and costs."""
    parts = make(one), make(other, 100)
    joined = KeptScores.concat([KeptScores.empty(2), *parts], info={"a": 1})
    assert rows(joined) == rows(parts[0]) + rows(parts[1])
    order = list(range(len(joined)))
    random.shuffle(order)
    singles = [row for i in order for row in rows(joined.select(np.array([i])))]
    assert rows(joined.select(np.array(order, np.int64))) == singles
    assert joined.info == {"a": 1}


def test_the_file_gives_back_what_was_saved(tmp_path):
    """Arrays bit for bit, names in any script, the information about them."""
    kept = make([[2, 0], [], [1]])
    kept.save(tmp_path / "scores.1.npz")
    found = KeptScores.load(tmp_path / "scores.1.npz")
    assert rows(found) == rows(kept) and found.info == kept.info
    assert [path.name for path in tmp_path.iterdir()] == ["scores.1.npz"]


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_flipped_bit_is_noticed(tmp_path, place):
    """A change anywhere in an array is an error that names the file, and so is a short file."""
    path = tmp_path / "scores.1.npz"
    make([[2] * 200] * 20).save(path)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: int(place * len(data))])
    with pytest.raises(ScoringError, match=r"scores\.1\.npz"):
        KeptScores.load(path)
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ScoringError, match=r"scores\.1\.npz"):
        KeptScores.load(path)


def test_a_missing_file_says_how_to_make_it(tmp_path):
    """The verb and the option are named."""
    with pytest.raises(MissingInputError, match="--keep-scores"):
        KeptScores.load(tmp_path / "scores.1.npz")
