# SPDX-License-Identifier: Apache-2.0
"""Which language models replace the old one, and with what weights.

    g_out = g_in - w_old OLD + sum_k w_k NEW_k - rho |words|      for every complete path, the sentence end included

One new model in the place of the old one is w_old = w_1 = w. Density ratio is a target model with weight lambda, a
source model with weight -mu, and rho: scores are ln p there, so what is added for a word is taken off the costs here.

    ln p(y|x) - mu ln p_source(y) + lambda ln p_target(y) + rho |y|

Paper: McDermott, Sak and Variani, "A density ratio approach to language model fusion in end-to-end automatic speech
recognition", 2019 (arXiv 2002.11268); the form with rho: Saon et al., "Advancing RNN transducer technology for speech
recognition", 2021 (arXiv 2103.09935).

Not here: opening the models (`terms`), the arithmetic on arcs (`combine`), finding weights (`score.tune`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kaldi_mpq.artefact import writing
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import build, read_yaml

__all__ = ["Fusion", "Term"]


@dataclass(frozen=True)
class Term:
    """One new language model.

    Args:
      lm: LM directory, model.mpq, or n-gram (ARPA, G.fst, G.carpa).
      weight: w_k; below 0 takes the model's costs off.
      backward: the model reads sentences from their end; None: what the model says of itself (an n-gram: forward).
    Raises:
      ConfigError: the weight is not a finite number.
    """

    lm: Path
    weight: float
    backward: bool | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ConfigError(f"bad weight of {self.lm}", expected="a finite number", found=self.weight)


@dataclass(frozen=True)
class Fusion:
    """The right-hand side of the module's first equation.

    Args:
      old_weight: w_old, 0 or more.
      terms: at least one, no model twice.
      word_bonus: rho, taken off the cost of every word; below 0 it is a penalty.
    Raises:
      ConfigError: one of these does not hold, or a number is not finite.
    """

    old_weight: float
    terms: tuple[Term, ...]
    word_bonus: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.old_weight) and self.old_weight >= 0):
            raise ConfigError("bad value for old_weight", expected="a number not below 0", found=self.old_weight)
        if not math.isfinite(self.word_bonus):
            raise ConfigError("bad value for word_bonus", expected="a finite number", found=self.word_bonus)
        if not self.terms:
            raise ConfigError("a fusion without language models", expected="terms: [{lm: PATH, weight: NUMBER}, ...]")
        known: set[tuple[Path, bool | None]] = set()
        for term in self.terms:
            if (term.lm, term.backward) in known:
                raise ConfigError("a language model is there twice", found=term.lm, hint="add its weights up")
            known.add((term.lm, term.backward))

    @classmethod
    def single(cls, lm: Path, weight: float, old_weight: float | None = None) -> Fusion:
        """Return one new model in the place of the old one: g - w OLD + w NEW, unless ``old_weight`` says otherwise."""
        return cls(weight if old_weight is None else old_weight, (Term(lm, weight),))

    @classmethod
    def density_ratio(
        cls, target: Path, lam: float, source: Path, mu: float, rho: float, old_weight: float | None = None
    ) -> Fusion:
        """Return lambda of the target model, minus mu of the source model, rho per word; w_old is lambda by default."""
        return cls(lam if old_weight is None else old_weight, (Term(target, lam), Term(source, -mu)), rho)

    @classmethod
    def read(cls, path: str | Path) -> Fusion:
        """Return the fusion in a YAML file, whose paths are as on the command line.

            old_weight: 0.7
            word_bonus: 0.2          # 0 if absent
            terms:
            - {lm: exp/lstm, weight: 0.5}
            - {lm: exp/lstm_back, weight: 0.2, backward: true}

        Raises:
          MissingInputError, ConfigError: no such file; an unknown or missing key, a bad value.
        """
        return cls.from_dict(read_yaml(path), where=path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str | Path | None = None) -> Fusion:
        """Return the fusion that `to_dict` made.

        Raises:
          ConfigError: an unknown or missing key, a bad value.
        """
        numbers = dict(values)
        given = numbers.pop("terms", None)
        if not isinstance(given, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in given):
            raise ConfigError("no list of terms", where=where, expected="terms: [{lm: PATH, weight: NUMBER}, ...]")
        plain = build(_Numbers, numbers, where=where)
        return cls(plain.old_weight, tuple(build(Term, entry, where=where) for entry in given), plain.word_bonus)

    def to_dict(self) -> dict[str, Any]:
        """Return the fusion as YAML- and JSON-ready values."""
        terms: list[dict[str, Any]] = []
        for term in self.terms:
            stated = {} if term.backward is None else {"backward": term.backward}
            terms.append({"lm": str(term.lm), "weight": term.weight, **stated})
        return {"old_weight": self.old_weight, "word_bonus": self.word_bonus, "terms": terms}

    def write(self, path: str | Path) -> None:
        """Write what `read` reads, whole or not at all."""
        with writing(path) as temporary:
            temporary.write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")

    @property
    def changes_nothing(self) -> bool:
        """Whether all weights and the bonus are 0."""
        return not (self.old_weight or self.word_bonus or any(term.weight for term in self.terms))


@dataclass(frozen=True)
class _Numbers:
    """The numbers at the top of a fusion file."""

    old_weight: float
    word_bonus: float = 0.0
