# SPDX-License-Identifier: Apache-2.0
"""Run by torchrun from test_processes: trains in two processes, is killed in one training, and goes on with it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from kaldi_mpq.lm import processes
from kaldi_mpq.lm import train as loop
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.settings import TrainSettings

SHAPE = {"embedding_dim": 12, "hidden_dim": 12, "layers": 1, "dropout": 0.2}
OPTIM = {"epochs": 4, "learning_rate": 0.06, "warmup_steps": 5, "batch_tokens": 60, "window": 10, "threads": 1}


class KilledError(Exception):
    """Stands for a signal."""


class Mortal(Objective):
    """An objective that is killed in the middle of its ninth step."""

    def after_step(self, done: int) -> None:
        """Raise in the ninth step."""
        if done == 9:
            raise KilledError


def train(data: Path, out: Path, **changed) -> None:
    """Train, and leave every process's own weights and summary beside the model."""
    settings = TrainSettings(out=out, data=data, device="cpu", **{**SHAPE, **OPTIM, **changed})
    summary = loop.train_lm(settings)
    (out / f"summary.{processes.rank()}").write_text(summary)


def main(data: Path, out: Path) -> None:
    """Train with either context, and once more with a violent end in between."""
    finish, leave = loop.finish, processes.leave

    def spy(model, settings, data, out, made_by):
        torch.save(model.state_dict(), out / f"weights.{processes.rank()}")
        return finish(model, settings, data, out, made_by)

    loop.finish, loop.leave = spy, lambda: None  # one group for all trainings of this program
    train(data, out / "utterance")
    (out / f"started.{processes.rank()}").touch()
    train(data, out / "conversation", context="conversation")
    loop.Objective = Mortal
    try:
        train(data, out / "broken", context="conversation", checkpoint_minutes=0.0)
    except KilledError:
        loop.Objective = Objective
    train(data, out / "broken", context="conversation", checkpoint_minutes=0.0)
    leave()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
