# SPDX-License-Identifier: Apache-2.0
"""The processes of one training under torchrun, and the device of this one. Not here: what they train (`train`)."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from torch import distributed

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.settings import OptimSettings

__all__ = ["agreed", "choose_device", "gathered", "leave", "prepare_process", "rank", "world"]


def prepare_process(settings: OptimSettings) -> None:
    """Set the number of threads and, under torchrun, join the other processes; only the first one logs what it does."""
    if settings.threads > 0:
        torch.set_num_threads(settings.threads)
    if "RANK" in os.environ and not distributed.is_initialized():
        device = choose_device(settings.device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        if rank() > 0:
            logging.getLogger("kaldi_mpq").setLevel(logging.WARNING)


def choose_device(name: str) -> torch.device:
    """Return the device: ``auto`` is CUDA where there is one, the local rank's under torchrun.

    Raises:
      ConfigError: there is no such device.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name != "auto" and name.partition(":")[0] != "cuda":
        raise ConfigError("bad value for device", expected="cpu, cuda, cuda:N or auto", found=name)
    if not torch.cuda.is_available():
        hint = "--device cpu"
        raise ConfigError("no CUDA device", expected="a GPU that this torch supports", found="none", hint=hint)
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if ":" not in name else torch.device(name)


def rank() -> int:
    """Return the number of this process, 0 where it is the only one."""
    return distributed.get_rank() if _together() else 0


def world() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if _together() else 1


def agreed(value: float) -> float:
    """Return the first process's ``value`` in all of them, so that they stop, validate and save at the same step."""
    if world() == 1:
        return value
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(float(value), dtype=torch.float64, device=device)
    distributed.broadcast(shared, 0)
    return shared.item()


def gathered(value: Any) -> list[Any]:
    """Return every process's ``value``, by rank."""
    values = [value] * world()
    if world() > 1:
        distributed.all_gather_object(values, value)
    return values


def leave() -> None:
    """Part from the other processes; none waits for this one any more."""
    if _together():
        distributed.destroy_process_group()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
