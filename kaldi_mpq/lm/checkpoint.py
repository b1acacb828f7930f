# SPDX-License-Identifier: Apache-2.0
"""A language model on disk: config.json and model.safetensors; and the state of a training that can go on exactly.

Not here: quantized and packed models (`fit`, `pack`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kaldi_mpq.artefact import read_json, require, write_json, writing
from kaldi_mpq.errors import ModelFileError, MpqError
from kaldi_mpq.lm.model import LanguageModel, ModelConfig, build

__all__ = ["check_finite", "load_lm", "load_weights", "read_checkpoint", "save_lm", "write_checkpoint"]


def save_lm(out: str | Path, model: LanguageModel, made_by: dict[str, Any]) -> None:
    """Write ``config.json`` (the model's shape and what made it) and ``model.safetensors`` into ``out``."""
    out = Path(out)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with writing(out / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    write_json(out / "config.json", {**model.config.to_dict(), "made_by": made_by})


def load_lm(path: str | Path) -> LanguageModel:
    """Return the model in a directory that `save_lm` wrote, in evaluation mode.

    Raises:
      MissingInputError: naming every file that is not there.
      ModelFileError: damaged, not fitting its configuration, or holding NaN or infinity.
    """
    path = Path(path)
    require([path / "config.json", path / "model.safetensors"], hint="is this an LM directory?")
    values = read_json(path / "config.json")
    if not isinstance(values, dict):
        found = type(values).__name__
        raise ModelFileError("not a configuration", where=path / "config.json", expected="an object", found=found)
    values.pop("made_by", None)
    model = build(ModelConfig.from_dict(values))
    try:
        tensors = load_file(path / "model.safetensors")
    except SafetensorError as error:
        raise ModelFileError("damaged model file", where=path / "model.safetensors", found=str(error)) from error
    load_weights(model, tensors, where=path / "model.safetensors")
    return model.eval()


def load_weights(model: nn.Module, tensors: dict[str, Tensor], *, where: str | Path) -> None:
    """Copy tensors into a model.

    Raises:
      ModelFileError: tensors are missing, left over, of another shape, or not finite.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise ModelFileError(
                f"tensor {name} does not fit the configuration",
                where=where,
                expected=expected.get(name, "no such tensor"),
                found=found.get(name, "nothing"),
            )
    check_finite(tensors, where=where)
    model.load_state_dict(tensors)


def check_finite(tensors: dict[str, Tensor], *, where: str | Path) -> None:
    """Raise ModelFileError naming the first tensor with a NaN or an infinity, and where in it."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            place = torch.nonzero(~torch.isfinite(tensor))[0].tolist()
            found = f"{tensor[tuple(place)].item()} at {place}"
            raise ModelFileError(f"tensor {name} is not finite", where=where, found=found)


def write_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write the state of a training, whole or not at all.

    Args:
      state: dictionaries, lists and tuples (read back as lists) of tensors, numbers, strings and None.
    """
    tensors: list[Tensor] = []
    plain = json.dumps(_without_tensors(state, tensors))  # in JSON: torch 1.13 reads no float without running code
    with writing(path) as temporary:
        torch.save({"plain": plain, "tensors": tensors}, temporary)


def read_checkpoint(path: str | Path, device: torch.device) -> dict[str, Any]:
    """Return what `write_checkpoint` wrote; only tensors and plain values are read, no code is run.

    Raises:
      MpqError: the file is damaged.
    """
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        return _with_tensors(json.loads(stored["plain"]), stored["tensors"])
    except Exception as error:  # torch raises many kinds for a damaged file, some of them without a word
        found = (str(error) or type(error).__name__).splitlines()[0]
        raise MpqError("damaged checkpoint", where=path, found=found, hint="remove it to start anew") from error


def _without_tensors(value: Any, tensors: list[Tensor]) -> Any:
    """Return ``value`` for JSON, its tensors moved to ``tensors`` and their places there left behind."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return {"tensor": len(tensors) - 1}
    if isinstance(value, dict):  # pairs: an optimiser's keys are numbers, JSON's are strings
        return {"dict": [[key, _without_tensors(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_without_tensors(inner, tensors) for inner in value]
    return value


def _with_tensors(value: Any, tensors: list[Tensor]) -> Any:
    """Undo `_without_tensors`."""
    if isinstance(value, list):
        return [_with_tensors(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _with_tensors(inner, tensors) for key, inner in value["dict"]}
