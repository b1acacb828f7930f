# SPDX-License-Identifier: Apache-2.0
"""Learning rates: cosine with warm-up, halving on no gain, or constant. Not here: the optimiser.

Paper: cosine: Loshchilov and Hutter, "SGDR", 2017, eq. (5) without restarts.
"""

from __future__ import annotations

import math

from kaldi_mpq.lm.settings import OptimSettings

__all__ = ["learning_rate"]


def learning_rate(settings: OptimSettings, step: int, total_steps: int, halvings: int) -> float:
    """Return the learning rate of a step.

    Args:
      step: steps made before this one.
      total_steps: steps of the whole training.
      halvings: how often the rate was halved so far (schedule ``halving``).
    """
    peak = settings.learning_rate
    if step < settings.warmup_steps:
        return peak * (step + 1) / settings.warmup_steps
    if settings.schedule == "halving":
        return peak * 0.5**halvings
    if settings.schedule == "constant":
        return peak
    done = (step - settings.warmup_steps) / max(total_steps - settings.warmup_steps, 1)
    fraction = 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
    return peak * (settings.final_rate + (1.0 - settings.final_rate) * fraction)
