# SPDX-License-Identifier: Apache-2.0
"""Noise to mix into speech: pink noise of telephone bandwidth, and babble of many voices.

Not here: mixing, which is lhotse's (`features`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from espeak import SAMPLING_RATE, telephone
from lhotse import CutSet, Recording, RecordingSet
from numpy.typing import NDArray

from kaldi_mpq.artefact import writing

__all__ = ["noise_cuts"]

SECONDS = 30.0
PIECES = 8  # recordings of each kind
TALKERS = 6


def noise_cuts(directory: Path, speech: Sequence[Path], seed: int) -> CutSet:
    """Return noises, each a recording of half a minute; written once.

    Args:
      directory: where the wav files are put.
      speech: wav files of which babble is made.
      seed: of both kinds.
    """
    chance = np.random.default_rng(seed)
    paths = []
    for number in range(2 * PIECES):
        path = directory / f"{'pink' if number % 2 else 'babble'}-{number // 2}.wav"
        samples = pink(chance) if number % 2 else babble(chance, speech)
        with writing(path) as temporary:
            soundfile.write(temporary, samples, SAMPLING_RATE, "PCM_16", format="WAV")
        paths.append(path)
    recordings = RecordingSet.from_recordings(Recording.from_file(path) for path in paths)
    return CutSet.from_manifests(recordings=recordings).to_eager()


def pink(chance: np.random.Generator) -> NDArray[np.float32]:
    """Return noise whose power falls as 1/f."""
    size = round(SECONDS * SAMPLING_RATE)
    spectrum = np.fft.rfft(chance.standard_normal(size))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    return telephone(np.fft.irfft(spectrum, size).astype(np.float32), SAMPLING_RATE)


def babble(chance: np.random.Generator, speech: Sequence[Path]) -> NDArray[np.float32]:
    """Return some talkers at once, each saying one utterance after the other."""
    size = round(SECONDS * SAMPLING_RATE)
    total = np.zeros(size, np.float32)
    for _ in range(TALKERS):
        said: list[NDArray[np.float32]] = []
        while sum(map(len, said)) < size:
            said.append(soundfile.read(speech[chance.integers(len(speech))], dtype="float32")[0])
        total += np.concatenate(said)[:size]
    return telephone(total, SAMPLING_RATE)
