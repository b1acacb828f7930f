# SPDX-License-Identifier: Apache-2.0
"""The methods that train, as ``mpq search`` runs them: texts in, widths (and from ``csq`` a fitted LM) kept in OUT.

Not here: the methods (`nas`, `csq`).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from kaldi_mpq.artefact import read_json, require, sha256_of, stamp, write_json, writing
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.checkpoint import load_weights
from kaldi_mpq.lm.model import build
from kaldi_mpq.lm.processes import choose_device
from kaldi_mpq.lm.train import finish
from kaldi_mpq.quant.quantized import save_quantized, tensors_on_grid
from kaldi_mpq.search.csq import Fitted, search_csq
from kaldi_mpq.search.diffq import search_diffq
from kaldi_mpq.search.nas import search_nas
from kaldi_mpq.search.problem import Found, Problem
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.training import loop_settings
from kaldi_mpq.search.training_settings import TrainingSettings
from kaldi_mpq.search.units import precision_of
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.corpus import Corpus

__all__ = ["csq", "diffq", "nas"]

_STAGES = ("softmax", "uniform", "gumbel", "csq", "diffq")  # directories of checkpoints in OUT


def nas(problem: Problem, settings: SearchSettings) -> Found:
    """Return what `search_nas` finds, or found before with these settings."""
    return _once(problem, settings, lambda made_with: search_nas(problem, settings, *_texts(settings), made_with))


def csq(problem: Problem, settings: SearchSettings) -> Found:
    """Return what `search_csq` finds, or found before with these settings; write the fitted LM that goes with it."""

    def search(made_with: dict[str, Any]) -> Found:
        found, fitted = search_csq(problem, settings, *_texts(settings), made_with)
        _write_fitted(problem, settings, found, fitted)
        return found

    return _once(problem, settings, search)


def diffq(problem: Problem, settings: SearchSettings) -> Found:
    """Return what `search_diffq` finds, or found before; write its packed state and the LM that it restores."""

    def search(made_with: dict[str, Any]) -> Found:
        found, result = search_diffq(problem, settings, *_texts(settings), made_with)
        path = settings.out / "model.diffq"
        with writing(path) as temporary:
            temporary.write_bytes(result.packed)
        size, float32 = path.stat().st_size, 4 * problem.parameters
        sizes = {"file": path.name, "bytes": size, "float32_bytes": float32, "ratio": float32 / size,
                 "parameters": problem.parameters, "mean_bits": 8 * size / problem.parameters}  # fmt: skip
        write_json(settings.out / "size.json", sizes)
        _finish(problem, settings, result.tensors)
        return found

    return _once(problem, settings, search)


def _once(problem: Problem, settings: SearchSettings, search: Callable[[dict[str, Any]], Found]) -> Found:
    """Return what a search found before with these settings, or search and keep it."""
    made_with = _made_with(problem, settings)
    return _found_before(settings, made_with) or _kept(search(made_with), settings, made_with)


def _texts(settings: SearchSettings) -> tuple[Corpus, Corpus]:
    paths = [settings.data / f"{name}.ids" for name in ("train", "dev")]
    require(paths, hint="mpq text makes them")
    train, dev = map(Corpus.load, paths)
    return train, dev


def _made_with(problem: Problem, settings: SearchSettings) -> dict[str, Any]:
    """Return everything that the result depends on, JSON-ready."""
    plain = as_plain(settings)
    names = [field.name for field in dataclasses.fields(TrainingSettings) if field.name != "checkpoint_minutes"]
    if settings.method != "diffq":
        names = [name for name in names if not name.startswith("diffq_")]
    shared = ("method", "units", "granularity", "block", "context", "seed")
    inputs = [settings.lm / "model.safetensors", settings.data / "train.ids"]
    require(inputs)
    return {
        **{name: plain[name] for name in (*shared, *names)},
        "capacity": problem.capacity,
        "widths": [[name, list(sizes)] for name, sizes in problem.bytes.items()],
        "input_sha256": [sha256_of(path) for path in inputs],
    }


def _found_before(settings: SearchSettings, made_with: dict[str, Any]) -> Found | None:
    """Return the result that is in OUT.

    Raises:
      ConfigError: it was made with other settings.
    """
    path = settings.out / "trained.json"
    if not path.exists():
        return None
    before = read_json(path)
    changed = [name for name, value in made_with.items() if before["made_with"].get(name) != value]
    if changed:
        raise ConfigError(
            "made with other settings",
            where=path,
            expected={name: before["made_with"].get(name) for name in changed},
            found={name: made_with[name] for name in changed},
            hint="remove the directory, or choose another one",
        )
    return Found(before["bits"], before["details"], before.get("size"))


def _kept(found: Found, settings: SearchSettings, made_with: dict[str, Any]) -> Found:
    """Write down what was found, and remove what an interrupted search would go on from."""
    write_json(
        settings.out / "trained.json",
        {"made_with": made_with, "bits": dict(found.bits), "details": dict(found.details), "size": found.size},
    )
    for stage in _STAGES:
        place = settings.out / stage
        (place / "checkpoint.pt").unlink(missing_ok=True)
        if (place / "train.log").exists():
            shutil.move(place / "train.log", settings.out / f"{stage}.log")
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    return found


def _write_fitted(problem: Problem, settings: SearchSettings, found: Found, fitted: Fitted) -> None:
    """Write the LM directory that ``mpq pack`` takes."""
    precision = precision_of(problem.groups, found.bits)
    units = [unit for group in problem.groups for unit in group.units]
    save_quantized(settings.out / "quant.safetensors", fitted.quantized)
    precision.write(settings.out / "precision.json")
    _finish(problem, settings, tensors_on_grid(fitted.tensors, units, precision, fitted.quantized))


def _finish(problem: Problem, settings: SearchSettings, tensors: Mapping[str, Tensor]) -> None:
    """Write an LM directory with these weights."""
    model = build(problem.model.config)
    load_weights(model, tensors, where=settings.out)
    inputs = [settings.lm / "model.safetensors", settings.data / "train.ids", settings.data / "words.txt"]
    made_by = stamp("search", as_plain(settings), inputs)
    model = model.to(choose_device(settings.device)).eval()
    finish(model, loop_settings(settings), settings.data, settings.out, made_by)
