# SPDX-License-Identifier: Apache-2.0
"""Mixing two language models: in probabilities (linear) or in their logarithms (log-linear).

    linear      p(w | h) = u p_1(w | h) + (1 - u) p_2(w | h)
    log-linear  p(w | h) = p_1(w | h)^u p_2(w | h)^(1 - u) / Z(h)

Linear mixtures are probabilities again. Log-linear ones are only with Z(h), the sum over the vocabulary. What rescoring
of lattices does is log-linear without Z: enough for ranking, but exp of its mean is no perplexity.

Paper: Dempster, Laird and Rubin, "Maximum likelihood from incomplete data via the EM algorithm", 1977.
Not here: where log-probabilities come from. All of them are natural.
"""

from __future__ import annotations

import numpy as np

from kaldi_mpq.errors import ConfigError

__all__ = ["best_linear_weight", "linear", "log_linear", "log_linear_normalised"]


def linear(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """Return ln(u p_1 + (1 - u) p_2), the shape of the inputs.

    Args:
      first, second: log-probabilities of the same tokens under either model, any one shape; -inf is allowed.
      weight: u, of the first model, 0 to 1.
    Raises:
      ConfigError: the weight is out of range.
    """
    _check(weight)
    with np.errstate(divide="ignore"):
        return np.logaddexp(np.log(weight) + first, np.log1p(-weight) + second)


def log_linear(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """Return u ln p_1 + (1 - u) ln p_2, which is not normalised: its exponentials sum to at most 1 over the vocabulary.

    Args: see `linear`. A model of weight 0 does not count, even where its probability is 0.
    """
    _check(weight)
    return _times(weight, first) + _times(1.0 - weight, second)


def log_linear_normalised(first: np.ndarray, second: np.ndarray, targets: np.ndarray, weight: float) -> np.ndarray:
    """Return (T,) log-probabilities of ``targets`` under the log-linear mixture with its normaliser.

    Args:
      first, second: (T, V), the whole distributions of both models at T positions.
      targets: (T,) int, a word at each position.
      weight: u, of the first model, 0 to 1.
    """
    mixed = log_linear(first, second, weight)
    highest = mixed.max(axis=-1, keepdims=True)
    normaliser = highest[..., 0] + np.log(np.exp(mixed - highest).sum(axis=-1))
    return np.take_along_axis(mixed, np.asarray(targets)[..., None], axis=-1)[..., 0] - normaliser


def best_linear_weight(
    first: np.ndarray, second: np.ndarray, *, tolerance: float = 1e-6, max_iterations: int = 1000
) -> float:
    """Return the weight of the first model with which the linear mixture is most likely, by EM.

    u <- 1/T sum_t u p_1(t) / (u p_1(t) + (1 - u) p_2(t))

    The likelihood is concave in u and never falls, so there is one maximum. Tokens that are impossible under both are
    left out.

    Args:
      first, second: (T,), log-probabilities of held-out tokens.
      tolerance: stop when u changes by less.
    """
    first, second = np.asarray(first, np.float64).ravel(), np.asarray(second, np.float64).ravel()
    possible = np.isfinite(first) | np.isfinite(second)
    if not possible.any():
        return 0.5
    advantage = first[possible] - second[possible]  # +-inf where one of them is impossible
    weight = 0.5
    for _ in range(max_iterations):
        if weight in (0.0, 1.0):
            break
        logit = np.clip(np.log(weight) - np.log1p(-weight) + advantage, -700.0, 700.0)
        updated = float((1.0 / (1.0 + np.exp(-logit))).mean())
        if abs(updated - weight) < tolerance:
            return updated
        weight = updated
    return weight


def _times(weight: float, logp: np.ndarray) -> np.ndarray:
    """Return ``weight * logp`` with 0 times -inf being 0."""
    return np.zeros_like(logp) if weight == 0.0 else weight * logp


def _check(weight: float) -> None:
    if not 0.0 <= weight <= 1.0:
        raise ConfigError("bad interpolation weight", expected="a number from 0 to 1", found=weight)
