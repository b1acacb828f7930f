# SPDX-License-Identifier: Apache-2.0
"""Who speaks: voice of espeak-ng, rate and pitch of each speaker; no voice of dev and eval is one of training.

Not here: the speech itself (`speak`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

__all__ = ["TEST_VOICES", "TRAIN_VOICES", "Voice", "voice_of"]

# Variants change formants, pitch range, breath and timbre. Whispers, robots and other sound effects are left out.
TRAIN_VOICES = (
    "adam", "Alex", "Alicia", "Andrea", "Andy", "Annie", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb",
    "david", "Denis", "Diogo", "ed", "edward", "Gene", "Henrique", "Hugo", "Jacky", "john", "Lee", "linda", "marcelo",
    "Marco", "f1", "f2", "f3", "m1", "m2", "m3", "m4", "m5", "steph", "Michael", "max", "Mario", "klatt", "klatt2",
)  # fmt: skip
TEST_VOICES = ("anika", "f4", "f5", "m6", "m7", "m8", "Mike", "michel", "norbert", "paul", "pedro", "quincy", "rob",
               "robert", "sandro", "miguel", "steph2", "travis", "victor", "pablo")  # fmt: skip


@dataclass(frozen=True)
class Voice:
    """How a speaker speaks.

    Args:
      name: what espeak-ng's option -v takes.
      rate: words per minute.
      pitch: 0 to 99, 50 is the voice's own.
    """

    name: str
    rate: int
    pitch: int


def voice_of(speaker: str, *, train: bool) -> Voice:
    """Return the voice of a speaker, by a hash of the name."""
    number = int(hashlib.sha256(f"voice {speaker}".encode()).hexdigest(), 16)
    names = TRAIN_VOICES if train else TEST_VOICES
    number, which = divmod(number, len(names))
    number, rate = divmod(number, 61)
    return Voice(f"en-us+{names[which]}", 145 + rate, 35 + number % 31)
