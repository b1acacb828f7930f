# SPDX-License-Identifier: Apache-2.0
"""espeak-ng as a telephone speaker: words and a voice in, 8 kHz samples between 300 and 3,400 Hz out.

Not here: who says what (`voices`, `prepare_text`) and noise (`features`).
"""

from __future__ import annotations

import functools
import io
import subprocess

import numpy as np
import soundfile
import torch
from espeak_program import require_espeak
from lhotse.augmentation.resample import Resample
from numpy.typing import NDArray
from voices import Voice

from kaldi_mpq.errors import MpqError

__all__ = ["SAMPLING_RATE", "speak", "telephone"]

SAMPLING_RATE = 8000
BAND_HZ = (300.0, 3400.0)
_PEAK = 0.5


def speak(words: str, voice: Voice) -> NDArray[np.float32]:
    """Return (samples,) what is said, at 8 kHz.

    Raises:
      MpqError: espeak-ng failed, or said nothing.
    """
    command = [
        require_espeak(),
        "-v",
        voice.name,
        "-s",
        str(voice.rate),
        "-p",
        str(voice.pitch),
        "--stdout",
        "--",
        words,
    ]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0 or len(done.stdout) <= 44:
        message = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        raise MpqError(f"espeak-ng cannot say {words!r} as {voice.name}", found=message)
    samples, rate = soundfile.read(io.BytesIO(_with_size(done.stdout)), dtype="float32")
    return telephone(samples, rate)


def _with_size(wav: bytes) -> bytes:
    """Return a WAV file with the size of its data where espeak-ng, which writes into a pipe, has a placeholder."""
    return wav[:4] + (len(wav) - 8).to_bytes(4, "little") + wav[8:40] + (len(wav) - 44).to_bytes(4, "little") + wav[44:]


@functools.cache
def _resampler(rate: int) -> Resample:
    return Resample(rate, SAMPLING_RATE)


def telephone(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return samples at 8 kHz without what a telephone does not carry, the highest at a fixed level."""
    low = _resampler(rate)(torch.from_numpy(samples)[None])[0].numpy()
    spectrum = np.fft.rfft(low)
    frequency = np.fft.rfftfreq(len(low), 1 / SAMPLING_RATE)
    spectrum[(frequency < BAND_HZ[0]) | (frequency > BAND_HZ[1])] = 0
    band = np.fft.irfft(spectrum, len(low)).astype(np.float32)
    return band * (_PEAK / max(float(np.abs(band).max()), 1e-6))
