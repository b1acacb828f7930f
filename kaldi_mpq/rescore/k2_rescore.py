# SPDX-License-Identifier: Apache-2.0
"""A k2 FsaVec rescored: an adapter around anything that rescores Kaldi lattices.

Not here: conversion (`k2_kaldi`, `k2_fsas`) and rescoring itself (`nbest` and its siblings).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kaldi_mpq import native
from kaldi_mpq.errors import LatticeError
from kaldi_mpq.rescore.k2_fsas import to_fsas
from kaldi_mpq.rescore.k2_kaldi import to_kaldi

if TYPE_CHECKING:
    import k2

__all__ = ["rescore_fsas"]

log = logging.getLogger(__name__)


def rescore_fsas(
    fsas: k2.Fsa,
    rescorer: Callable[[native.Lattices], Any],
    keys: Sequence[str] | None = None,
    *,
    acoustic_scale: float = 1.0,
    beam: float = math.inf,
    **conversion: Any,
) -> k2.Fsa:
    """Return the FsaVec that a rescorer of Kaldi lattices makes of another, on the same device, in the same order.

    The result has words as labels, one path for each word string (the best), and the attributes of `to_fsas`:
    ``scores`` = -(graph + acoustic_scale * acoustic) with the new graph costs, ``lm_scores``, ``tids``, ...

    Args:
      fsas: as `to_kaldi` takes them, for example from `k2.intersect_dense_pruned`.
      rescorer: takes lattices and returns them with other graph costs, the same keys in the same order; or a tuple that
        begins with them, as ``NbestRescorer.rescore`` does, or an object with the attribute ``lattices``.
      keys: (F) utterance ids; None: those that the FsaVec has, else made up ones.
      acoustic_scale: see `to_kaldi`; what the rescorer should use too.
      beam: of the determinization before rescoring; a finite one where FSAs have frames as arcs, as decoders make them.
      conversion: further arguments of `to_kaldi`.
    Raises:
      ConfigError, LatticeError: see `to_kaldi`; or the rescorer lost a lattice.
    """
    device = fsas.device
    if keys is None and not hasattr(fsas, "kaldi_keys"):
        keys = [f"utt-{i}" for i in range(fsas.shape[0] if len(fsas.shape) == 3 else 1)]
    lattices = to_kaldi(fsas, keys, acoustic_scale=acoustic_scale, **conversion)
    lattices, reasons = native.determinize(lattices, acoustic_scale, beam=beam)
    for key, reason in zip(lattices.keys, reasons, strict=True):
        if reason is not None:
            log.warning("WARNING utterance %s is not determinized: %s", key, reason)
    done = rescorer(lattices)
    rescored = done[0] if isinstance(done, tuple) else getattr(done, "lattices", done)
    if rescored.keys != lattices.keys:
        raise LatticeError("the rescorer changed the utterances or their order", expected=len(lattices),
                           found=len(rescored))  # fmt: skip
    return to_fsas(rescored, acoustic_scale).to(device)
