# SPDX-License-Identifier: Apache-2.0
"""The one training loop: float models, quantization-aware and ADMM training alike, on one process or under torchrun.

Not here: what is minimised (`objective`), learning rates (`schedule`), the order of the data (`batches`).
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kaldi_mpq.artefact import read_json, require, sha256_of, stamp, write_json, writing
from kaldi_mpq.errors import ConfigError, NumericalError
from kaldi_mpq.lm.batches import PADDING, Batch, as_read, conversation_batches, utterance_batches, utterance_plan
from kaldi_mpq.lm.checkpoint import read_checkpoint, save_lm, write_checkpoint
from kaldi_mpq.lm.made_with import already_done, comparable, other_settings, summary
from kaldi_mpq.lm.model import LanguageModel, ModelConfig, build
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.perplexity import Perplexity, log_normalizer_spread, perplexity
from kaldi_mpq.lm.processes import agreed, choose_device, gathered, leave, prepare_process, rank, world
from kaldi_mpq.lm.progress import TrainingProgress
from kaldi_mpq.lm.schedule import learning_rate
from kaldi_mpq.lm.settings import OptimSettings, TrainSettings
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.corpus import Corpus
from kaldi_mpq.text.vocab import Vocabulary

__all__ = ["Trainer", "choose_device", "finish", "prepare_process", "read_vocabulary", "train_lm"]

log = logging.getLogger(__name__)

_SHAPE = ("model", "embedding_dim", "hidden_dim", "layers", "heads", "norm", "tied", "dropout", "backward")


def train_lm(settings: TrainSettings) -> str:
    """Train a language model and write its directory; go on from the last checkpoint if there is one."""
    prepare_process(settings)
    inputs = [settings.data / name for name in ("train.ids", "dev.ids", "words.txt")]
    require([*inputs, settings.data / "stats.json"], hint="mpq text makes them")
    # Another text is other settings too, though under the same name.
    made_with = {**as_plain(settings), "input_sha256": [sha256_of(path) for path in inputs]}
    done = already_done(settings.out, made_with)
    if done:
        return done
    vocabulary = read_vocabulary(settings.data)
    train, dev = (Corpus.load(settings.data / f"{name}.ids") for name in ("train", "dev"))
    symbols = {"bos": vocabulary.bos, "eos": vocabulary.eos, "unk": vocabulary.unk}
    shape = {name: getattr(settings, name) for name in _SHAPE}
    torch.manual_seed(settings.seed)
    model = build(ModelConfig(vocab_size=len(vocabulary), **symbols, **shape))
    if settings.self_normalize:
        nn.init.constant_(model.output.bias, -math.log(len(vocabulary)))  # so ln Z starts near 0
    objective = Objective(model, settings.label_smoothing, settings.self_normalize)
    Trainer(objective, settings, train, dev, settings.out).run(made_with)
    return finish(objective.model, settings, settings.data, settings.out, stamp("lm train", made_with, inputs))


def finish(model: LanguageModel, settings: OptimSettings, data: Path, out: Path, made_by: dict[str, Any]) -> str:
    """Write a trained model's directory with its perplexity on every text of ``data`` but the training text.

    Returns:
      The perplexities in one line; in all processes but the first nothing.
    """
    report = {}
    for path in sorted(data.glob("*.ids")):
        if path.stem != "train":
            corpus = Corpus.load(path)
            report[path.stem] = perplexity(model, corpus, context=settings.context).to_dict()
            if settings.self_normalize:
                report[path.stem]["log_normalizer"] = log_normalizer_spread(model, corpus, settings.context)
    first = rank() == 0
    leave()
    if first:
        save_lm(out, model, made_by)
        with writing(out / "words.txt") as temporary:
            temporary.write_bytes((data / "words.txt").read_bytes())
        write_json(out / "ppl.json", report)
        (out / "checkpoint.pt").unlink(missing_ok=True)
    return summary(report) if first else ""


class Trainer:
    """Minimises an objective on a corpus, with validation, early stopping and checkpoints that resume exactly.

    Args:
      objective: the model and its loss; holds the best weights found when `run` returns.
      settings: see OptimSettings.
      train, dev: what to train on and what decides when to stop.
      out: directory of ``checkpoint.pt`` and ``train.log``.
    Raises:
      ConfigError: there are more processes than batches or conversations to share out.
    """

    def __init__(self, objective: Objective, settings: OptimSettings, train: Corpus, dev: Corpus, out: Path) -> None:
        self.settings, self.dev, self.out = settings, dev, Path(out)
        self.train = as_read(train, objective.model.config.backward)
        self.device = choose_device(settings.device)
        self.objective = objective.to(self.device)
        self.parallel: nn.Module = objective
        if world() > 1:
            self.parallel = DistributedDataParallel(objective, broadcast_buffers=False)
        if rank() > 0:  # the weights are the first process's; dropout is not the same everywhere
            torch.manual_seed(settings.seed * 1000 + rank())
        self.optimizer = make_optimizer(objective, settings)
        self.state: Any = None  # what the next batch starts from, where context crosses utterances
        self.step = 0
        self.halvings = 0
        self.without_gain = 0
        self.best = math.inf
        self.best_weights: dict[str, torch.Tensor] = {}
        self.seen = Perplexity(0.0, 0)  # training loss since the last validation
        rows = [len(batch.inputs) for batch in self._batches(0)]
        if not rows or not rows[0]:
            found = f"{len(train)} utterances"
            raise ConfigError(f"the training text is too small for {world()} process(es)", found=found)
        self.steps_per_epoch = len(rows)
        self.total_steps = self.steps_per_epoch * settings.epochs

    def run(self, made_with: dict[str, Any], good_enough: float = 0.0) -> float:
        """Train until the epochs are over or nothing is gained any more; return the best validation perplexity.

        Args:
          made_with: settings that a checkpoint must share to be resumed.
          good_enough: validation perplexity at which to stop.
        Raises:
          ConfigError: there is a checkpoint of other settings.
          NumericalError: the loss or the validation perplexity is not finite.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        if (checkpoint := self.out / "checkpoint.pt").exists():
            self._resume(checkpoint, made_with)
        elif self.objective.starts_good:
            self._validate(tokens_per_second=0.0)
            self._save(checkpoint, made_with)
        every = max(1, round(self.settings.validate_every * self.steps_per_epoch))
        saved = time.monotonic()
        self.objective.train()
        with TrainingProgress(self.total_steps, self.step, quiet=rank() > 0) as progress:
            for batch in self._remaining() if self.best > good_enough else ():
                loss = self._one_step(batch)
                tokens = int((batch.targets != PADDING).sum())
                progress.step(loss, tokens)
                self.seen += Perplexity(loss * tokens, tokens)
                due = time.monotonic() - saved > 60 * self.settings.checkpoint_minutes
                if self.step % every == 0 or self.step == self.total_steps:
                    self._validate(progress.tokens_per_second)
                    if self._exhausted() or self.best <= good_enough:
                        break
                    due = True
                if agreed(due):
                    self._save(checkpoint, made_with)
                    saved = time.monotonic()
        self.objective.load_state_dict(self.best_weights)
        return self.best

    def _one_step(self, batch: Batch) -> float:
        if self.step % self.steps_per_epoch == 0:
            self.state = None
        rate = learning_rate(self.settings, self.step, self.total_steps, self.halvings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self.optimizer.zero_grad(set_to_none=True)
        loss, self.state = self.parallel(batch.to(self.device), self.state)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NumericalError(f"loss is {value} at step {self.step}", hint="try a lower learning_rate, or clip")
        loss.backward()
        if self.settings.clip > 0:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.settings.clip)
        self.optimizer.step()
        self.step += 1
        self.objective.after_step(self.step)
        return value

    def _validate(self, tokens_per_second: float) -> None:
        now = agreed(self.objective.validate(self.dev, 4000, self.settings.context).value)
        if not math.isfinite(now):
            raise NumericalError(f"dev perplexity is {now} at step {self.step}", hint="try a lower learning_rate")
        gained = now < self.best or self.objective.keeps_last
        if gained:
            self.best = now
            tensors = self.objective.state_dict()
            self.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        self.without_gain = 0 if gained else self.without_gain + 1
        self.halvings += self.settings.schedule == "halving" and not gained
        entry = {
            "epoch": round(self.step / self.steps_per_epoch, 3),
            "step": self.step,
            "train_loss_nats": self.seen.nll_nats / max(self.seen.tokens, 1),
            "dev_perplexity": now,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "tokens_per_second": round(tokens_per_second, 1),
        }
        self.seen = Perplexity(0.0, 0)
        log.info("epoch %.2f: dev perplexity %.2f%s", entry["epoch"], now, "" if gained else " (no gain)")
        if rank() == 0:
            with open(self.out / "train.log", "a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
        self.objective.train()

    def _exhausted(self) -> bool:
        if self.settings.schedule == "halving":
            return self.halvings >= self.settings.halvings
        return self.without_gain >= self.settings.patience

    def _batches(self, epoch: int) -> Iterator[Batch]:
        config, settings = self.objective.model.config, self.settings
        seed = settings.seed * 1000 + epoch
        if settings.context == "utterance":
            plan = utterance_plan(self.train, settings.batch_tokens, seed)
            plan = plan[rank() : len(plan) - len(plan) % world() : world()]
            return utterance_batches(self.train, plan, config.bos, config.eos)
        size = {"streams": max(1, settings.batch_tokens // settings.window) * world(), "window": settings.window}
        whole = conversation_batches(self.train, config.bos, config.eos, **size, seed=seed)
        return (Batch(*(part[rank() :: world()] for part in (b.inputs, b.targets, b.fresh))) for b in whole)

    def _remaining(self) -> Iterator[Batch]:
        """Yield the batches that are still to be trained on, from the middle of an epoch on if need be."""
        for epoch in range(self.step // self.steps_per_epoch, self.settings.epochs):
            skip = self.step - epoch * self.steps_per_epoch
            for number, batch in enumerate(self._batches(epoch)):
                if skip <= number < self.steps_per_epoch:
                    yield batch

    def _save(self, path: Path, made_with: dict[str, Any]) -> None:
        processes = gathered(self._own_state())
        if rank() > 0:
            return
        write_checkpoint(
            path,
            {
                "made_with": comparable(made_with),
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "counters": [self.step, self.halvings, self.without_gain, self.best],
                "seen": [self.seen.nll_nats, self.seen.tokens],
                "best_weights": self.best_weights,
                "processes": processes,
            },
        )

    def _own_state(self) -> dict[str, Any]:
        """Return what no other process has: what its next batch starts from, and its random numbers."""
        keep = self.state is not None and self.settings.context == "conversation"
        tensors = self.objective.state_dict()
        extra = {name: value.cpu() for name, value in tensors.items() if name.endswith("_extra_state")}
        return {
            "carried": [tensor.cpu() for tensor in vars(self.state.detach()).values()] if keep else [],
            "extra": extra,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def _resume(self, path: Path, made_with: dict[str, Any]) -> None:
        saved = read_checkpoint(path, self.device)
        theirs, ours = saved["made_with"], comparable(made_with)
        if theirs != ours:
            raise other_settings("there is a checkpoint of other settings", path, theirs, ours)
        processes = saved["processes"]
        if len(processes) != world():
            found, hint = world(), "go on with as many, or remove the checkpoint"
            raise ConfigError("other number of processes", where=path, expected=len(processes), found=found, hint=hint)
        own = processes[rank()]
        self.objective.load_state_dict({**saved["objective"], **own["extra"]})
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.halvings, self.without_gain, self.best = saved["counters"]
        self.seen = Perplexity(*saved["seen"])
        self.best_weights = saved["best_weights"]
        if own["carried"]:
            self.state = type(self.objective.model.start(1))(*own["carried"])
        torch.set_rng_state(own["random"].cpu())
        if self.device.type == "cuda" and own["random_cuda"] is not None:
            torch.cuda.set_rng_state(own["random_cuda"].cpu(), self.device)
        log.info("going on from step %d of %d (%s)", self.step, self.total_steps, path)


def make_optimizer(objective: Objective, settings: OptimSettings) -> torch.optim.Optimizer:
    """Return Adam with decoupled weight decay or SGD; matrices decay, vectors do not, parameters may scale their rate.

    A parameter's attribute ``rate_factor`` multiplies its learning rate (learned quantization scales use it).
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in objective.parameters():
        if parameter.requires_grad:
            decay = settings.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((decay, getattr(parameter, "rate_factor", 1.0)), []).append(parameter)
    options = [
        {"params": parameters, "weight_decay": decay, "rate_factor": factor}
        for (decay, factor), parameters in groups.items()
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(options, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(options, lr=settings.learning_rate)


def read_vocabulary(data: Path) -> Vocabulary:
    """Return the vocabulary of a directory that ``mpq text`` wrote."""
    symbols = read_json(data / "stats.json")["symbols"]
    return Vocabulary.read(data / "words.txt", **symbols)
