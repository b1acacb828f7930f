# SPDX-License-Identifier: Apache-2.0
"""What a directory of training was made with: finished or half-way, it is gone on with under the same settings only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import ConfigError

__all__ = ["already_done", "comparable", "other_settings", "summary"]


def already_done(out: Path, made_with: dict[str, Any]) -> str | None:
    """Return the summary of a finished training in ``out``, None where there is none.

    Raises:
      ConfigError: it was made with other settings.
    """
    if not (out / "ppl.json").exists():
        return None
    theirs = comparable(read_json(out / "config.json")["made_by"]["settings"])
    ours = comparable(made_with)
    if theirs != ours:
        raise other_settings("made with other settings", out, theirs, ours)
    return f"{out} is finished: {summary(read_json(out / 'ppl.json'))}"


def comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that change the result: not where files are, how often it is saved or what computes it."""
    irrelevant = {"out", "checkpoint_minutes", "threads", "device", "data", "lm"}
    # What directories made before these settings were there lack.
    later = ("backward", "self_normalize", "activation_bits", "prototypes", "enough")
    irrelevant.update(name for name in later if not settings.get(name))
    return json.loads(json.dumps({name: value for name, value in settings.items() if name not in irrelevant}))


def other_settings(what: str, where: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> ConfigError:
    """Return the error that shows what differs between a directory's settings and this command's."""
    changed = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return ConfigError(
        what,
        where=where,
        expected={name: theirs.get(name) for name in changed},
        found={name: ours.get(name) for name in changed},
        hint="remove the directory, or choose another one",
    )


def summary(report: dict[str, Any]) -> str:
    """Return the perplexities of a ``ppl.json`` in one line."""

    def line(name: str, values: dict[str, Any]) -> str:
        spread = values.get("log_normalizer")
        ln_z = f" (ln Z {spread['mean']:.3f} +- {spread['deviation']:.3f})" if spread else ""
        return f"{name} perplexity {values['perplexity']:.2f}{ln_z}"

    return ", ".join(line(name, values) for name, values in report.items())
