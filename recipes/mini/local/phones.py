# SPDX-License-Identifier: Apache-2.0
"""Kaldi's phones, pdfs and transition-ids of the chain topology, one emitting state for each phone.

A phone is said with its position in the word (AA_B, AA_I, AA_E, AA_S), so that `lattice-align-words` finds words; its
pdfs are those of the phone without position: one for its first frame, one for the others.

Not here: Kaldi's file of it (`transition_model`) and the network (`tdnnf`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pronounce import PHONES

__all__ = ["BASES", "NUM_PDFS", "SILENCE", "PhoneTable", "first_pdf", "loop_pdf", "positioned"]

SILENCE = "SIL"
BASES = (SILENCE, *PHONES)
NUM_PDFS = 2 * len(BASES)
POSITIONS = ("B", "E", "I", "S")
_BOUNDARY = {"B": "begin", "E": "end", "I": "internal", "S": "singleton"}
_NUMBER = {base: number for number, base in enumerate(BASES)}


def first_pdf(base: str) -> int:
    """Return the pdf of the first frame of a phone without position."""
    return 2 * _NUMBER[base]


def loop_pdf(base: str) -> int:
    """Return the pdf of its further frames."""
    return 2 * _NUMBER[base] + 1


def positioned(phones: tuple[str, ...]) -> tuple[str, ...]:
    """Return the phones of a word with their positions.

    >>> positioned(("K", "AE", "T"))
    ('K_B', 'AE_I', 'T_E')
    """
    if len(phones) == 1:
        return (f"{phones[0]}_S",)
    return (f"{phones[0]}_B", *(f"{phone}_I" for phone in phones[1:-1]), f"{phones[-1]}_E")


@dataclass(frozen=True)
class PhoneTable:
    """Phones with positions by number, 1 for silence and so on; 0 is <eps>.

    Args:
      names: without <eps>.
    """

    names: tuple[str, ...] = (SILENCE, *(f"{phone}_{position}" for phone in PHONES for position in POSITIONS))

    @property
    def ids(self) -> dict[str, int]:
        """Return the number of each name."""
        return {name: number for number, name in enumerate(self.names, start=1)}

    def base(self, name: str) -> str:
        """Return a phone without its position."""
        return name.partition("_")[0]

    def boundary(self, name: str) -> str:
        """Return what word_boundary.int says of a phone."""
        position = name.partition("_")[2]
        return _BOUNDARY[position] if position else "nonword"

    @staticmethod
    def first_tid(phone: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return the transition-id of the first frame of a phone: its transition out of the state."""
        return 2 * phone

    @staticmethod
    def loop_tid(phone: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return the transition-id of a further frame: its self-loop."""
        return 2 * phone - 1

    @property
    def pdf_of_tid(self) -> NDArray[np.int64]:
        """Return (2P) the pdf of each transition-id, the first of which is 1."""
        pdfs = [pdf for name in self.names for pdf in (loop_pdf(self.base(name)), first_pdf(self.base(name)))]
        return np.array(pdfs, np.int64)
