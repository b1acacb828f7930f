# SPDX-License-Identifier: Apache-2.0
"""Train the acoustic model with LF-MMI from scratch, without alignments.

    train_am.py [--epochs 5] [--seed 1] DATA/am_train EXP        writes EXP/am.safetensors, EXP/train.log, EXP/am.json

Ctrl-C and the same command again go on from the last checkpoint. Not here: the network, the graphs, the data.
"""

from __future__ import annotations

from kaldi_mpq.artefact import use_fast_mkl_on_amd

use_fast_mkl_on_amd()  # before torch is loaded

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import logging  # noqa: E402
import math  # noqa: E402
import pickle  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import command  # noqa: E402
import k2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from am_data import Utterance, batches, padded, read_set  # noqa: E402
from lfmmi import Bigram, denominator, numerator, objective, phone_bigram  # noqa: E402
from pronounce import pronunciations  # noqa: E402
from tdnnf import SUBSAMPLING, Tdnnf, save_weights  # noqa: E402
from torch import nn  # noqa: E402

from kaldi_mpq.artefact import stamp, write_json, writing  # noqa: E402
from kaldi_mpq.errors import ConfigError, ModelFileError, NumericalError  # noqa: E402

__all__ = ["Settings", "Trainer"]

log = logging.getLogger(__name__)

WARMUP_STEPS = 100
CLIP = 5.0
CONSTRAINT_INTERVAL = 4
LOG_INTERVAL = 25


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the result.

    Args:
      rate: learning rate at its highest; it rises for 100 steps and falls as a cosine to 2% of it.
      held_out: utterances on which the objective is printed after each epoch.
    """

    epochs: float = 5
    batch: int = 8
    rate: float = 2e-3
    weight_decay: float = 1e-4
    held_out: int = 48
    seed: int = 1


class Trainer:
    """A network in training.

    Args:
      utterances: the training set; the first ``held_out`` are kept for the objective after each epoch.
      out: where the checkpoint is.
    """

    def __init__(self, utterances: list[Utterance], settings: Settings, out: Path) -> None:
        if len(utterances) <= settings.held_out:
            raise ConfigError("too few training utterances", expected=f"> {settings.held_out}", found=len(utterances))
        torch.manual_seed(settings.seed)
        self.settings, self.out = settings, out
        words = [[pronunciations(word) for word in each.words] for each in utterances]
        bigram: Bigram = phone_bigram(words)
        self.whole = denominator(bigram)
        self.graphs: list[k2.Fsa] = [numerator(each, bigram) for each in words]
        self.utterances = utterances
        self.model = Tdnnf()
        decayed = [value for value in self.model.parameters() if value.ndim > 1]
        others = [value for value in self.model.parameters() if value.ndim == 1]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))
        self.step, self.epoch, self.at = 0, 0, 0
        per_epoch = math.ceil((len(utterances) - settings.held_out) / settings.batch)
        self.steps = round(settings.epochs * per_epoch)

    @property
    def checkpoint(self) -> Path:
        """Return the file that training goes on from."""
        return self.out / "checkpoint.pt"

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        warm = min(1.0, (self.step + 1) / WARMUP_STEPS)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / self.steps)))
        return self.settings.rate * warm * (0.02 + 0.98 * fall)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "settings": dataclasses.asdict(self.settings),
            "utterances": len(self.utterances),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "place": (self.step, self.epoch, self.at),
        }
        with writing(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one. The epochs may be others: the learning rate falls to the new end.

        Raises:
          ModelFileError: it is damaged.
          ConfigError: it is of other settings.
        """
        if not self.checkpoint.exists():
            return
        hint = f"remove {self.checkpoint} to train from the beginning"
        try:
            state: dict[str, Any] = torch.load(self.checkpoint)
            mine = ({**dataclasses.asdict(self.settings), "epochs": 0}, len(self.utterances))
            theirs = ({**state["settings"], "epochs": 0}, state["utterances"])
        except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise ModelFileError("a damaged checkpoint", where=self.checkpoint, found=error, hint=hint) from error
        if mine != theirs:
            raise ConfigError(
                "a checkpoint of other settings", where=self.checkpoint, expected=mine, found=theirs, hint=hint
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.epoch, self.at = state["place"]
        log.info("going on from step %d of %d (epoch %d)", self.step, self.steps, self.epoch)

    def train(self, checkpoint_seconds: float = 60.0) -> None:
        """Train to the end, writing a checkpoint now and then and when interrupted."""
        saved = time.monotonic()
        try:
            while self.step < self.steps:
                for group in self._rest_of_epoch():
                    self._step(group)
                    if time.monotonic() - saved > checkpoint_seconds:
                        self.save()
                        saved = time.monotonic()
                    if self.step >= self.steps:
                        break
                else:
                    self.epoch, self.at = self.epoch + 1, 0
                    log.info("epoch %d: held out %.4f nats per frame", self.epoch, self.held_out())
        except KeyboardInterrupt:
            self.save()
            raise
        self.save()

    def _rest_of_epoch(self) -> list[list[int]]:
        chance = np.random.default_rng((self.settings.seed, self.epoch))
        first = self.settings.held_out
        lengths = [len(each.features) for each in self.utterances[first:]]
        every = [[first + i for i in group] for group in batches(lengths, self.settings.batch, chance)]
        return every[self.at :]

    def _objective(self, group: list[int]) -> tuple[torch.Tensor, int]:
        features, frames = padded([self.utterances[i] for i in group])
        outputs = torch.div(frames + SUBSAMPLING - 1, SUBSAMPLING, rounding_mode="floor").int()
        return objective(self.model(features), outputs, [self.graphs[i] for i in group], self.whole)

    def _step(self, group: list[int]) -> None:
        self.model.train()
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self.rate()
        began = time.monotonic()
        total, frames = self._objective(group)
        if frames:
            loss = -total / frames
            if not torch.isfinite(loss):
                raise NumericalError("the objective is no number", where=f"step {self.step}", found=float(loss))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
            self.optimizer.step()
            if self.step % CONSTRAINT_INTERVAL == 0:
                self.model.constrain_()
        self.step, self.at = self.step + 1, self.at + 1
        if self.step % LOG_INTERVAL == 0 or self.step == 1:
            seconds = time.monotonic() - began
            per_frame = float(total) / max(frames, 1)
            log.info("step %d of %d: %.4f nats per frame, %.2f s", self.step, self.steps, per_frame, seconds)

    @torch.no_grad()
    def held_out(self) -> float:
        """Return the objective on the held-out utterances, in nats per output frame."""
        self.model.eval()
        lengths = [len(each.features) for each in self.utterances[: self.settings.held_out]]
        sums = [self._objective(group) for group in batches(lengths, self.settings.batch)]
        return sum(float(total) for total, _ in sums) / max(1, sum(frames for _, frames in sums))


def main() -> None:
    """Read the options, train, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="data directory of the training set")
    parser.add_argument("out", type=Path, help="directory to write")
    for field in dataclasses.fields(Settings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--utterances", type=int, default=0, help="the first so many only; 0: all")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(options.out / "train.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)
    settings = Settings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)})
    utterances = read_set(options.data)[: options.utterances or None]
    began = time.monotonic()
    trainer = Trainer(utterances, settings, options.out)
    log.info(
        "%d utterances, %d weights, %s", len(utterances), sum(p.numel() for p in trainer.model.parameters()), settings
    )
    trainer.resume()
    trainer.train()
    held_out = trainer.held_out()
    made_by = {**stamp("recipes/mini train_am", dataclasses.asdict(settings)), "utterances": len(utterances)}
    save_weights(trainer.model, options.out / "am.safetensors", {"made_by": "recipes/mini/local/train_am.py"})
    write_json(options.out / "am.json", {**made_by, "held_out_nats": held_out})
    log.info("held out %.4f nats per frame, %.0f s", held_out, time.monotonic() - began)


if __name__ == "__main__":
    command.run(main)
