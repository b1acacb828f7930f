# SPDX-License-Identifier: Apache-2.0
"""Several processes train one model: the same everywhere, and resumed exactly."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kaldi_mpq.artefact import read_json
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm import train as loop
from kaldi_mpq.lm.batches import PADDING
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.processes import agreed, gathered, rank, world
from kaldi_mpq.lm.train import Trainer
from kaldi_mpq.text.corpus import Corpus

PROGRAM = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory) -> Path:
    """What two processes under torchrun left behind."""
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(PROGRAM)]
    root = str(PROGRAM.parents[2])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([*command, str(toy), str(out)], env=env, capture_output=True, text=True, check=False)
    if not any(out.glob("started.*")) and "Rendezvous" in done.stderr:
        pytest.skip(f"torchrun cannot start here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", ["utterance", "conversation", "broken"])
def test_both_processes_end_with_the_same_weights(trained, name):
    """Bit for bit, and they are the ones that are written, by the first process alone."""
    first, second = (torch.load(trained / name / f"weights.{i}", weights_only=True) for i in (0, 1))
    written = load_file(trained / name / "model.safetensors")
    assert first.keys() == second.keys() == written.keys()
    for tensor_name, tensor in first.items():
        assert torch.equal(tensor, second[tensor_name])
        assert torch.equal(tensor, written[tensor_name])
    assert "dev perplexity" in (trained / name / "summary.0").read_text()
    assert (trained / name / "summary.1").read_text() == ""


@pytest.mark.parametrize("name", ["utterance", "conversation"])
def test_two_processes_learn(trained, name):
    """The perplexity is below the 15.8 that word frequencies give."""
    assert read_json(trained / name / "ppl.json")["dev"]["perplexity"] < 14


def test_killed_processes_go_on_exactly(trained):
    """Each process resumes with its own conversations and random numbers: the weights are those of a whole run."""
    whole, broken = (load_file(trained / name / "model.safetensors") for name in ("conversation", "broken"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, broken[name])


@pytest.fixture
def shared_out(settings, toy, monkeypatch):
    """Return a function that makes the trainer of process r of n, without the other processes."""

    def make(r: int, n: int, train: Corpus | None = None, **changed) -> Trainer:
        monkeypatch.setattr(loop, "rank", lambda: r)
        monkeypatch.setattr(loop, "world", lambda: n)
        monkeypatch.setattr(loop, "DistributedDataParallel", lambda objective, **_: objective)
        chosen = settings(**changed)
        model = build(ModelConfig("lstm", 23, 21, 22, 20, embedding_dim=4, hidden_dim=4, layers=1))
        train, dev = train or Corpus.load(toy / "train.ids"), Corpus.load(toy / "dev.ids")
        return Trainer(Objective(model), chosen, train, dev, chosen.out)

    return make


@pytest.mark.parametrize("context", ["utterance", "conversation"])
def test_processes_share_out_the_text(shared_out, context):
    """All make as many steps, no token is trained on twice, and less than a round of batches is left out."""
    everything: Counter = Counter()
    for batch in shared_out(0, 1, context=context, batch_tokens=60)._batches(0):
        everything.update(batch.targets[batch.targets != PADDING].tolist())
    found, steps, largest = Counter(), set(), 0
    for r in range(3):
        trainer = shared_out(r, 3, context=context, batch_tokens=60)
        batches = list(trainer._batches(0))
        steps.add(len(batches))
        for batch in batches:
            found.update(batch.targets[batch.targets != PADDING].tolist())
            largest = max(largest, batch.targets.numel())
    assert len(steps) == 1
    assert not found - everything
    assert (everything - found).total() <= (2 * largest if context == "utterance" else 0)


@pytest.mark.parametrize("context", ["utterance", "conversation"])
def test_more_processes_than_text_are_refused(shared_out, make_corpus, context):
    """A process that would have nothing to do is an error, not a training that hangs."""
    corpus = make_corpus([3, 3], [0, 0])
    with pytest.raises(ConfigError, match=r"too small for 2 process"):
        shared_out(1, 2, corpus, context=context)


def test_one_process_is_alone():
    """Without torchrun there is nobody to agree with."""
    assert (rank(), world()) == (0, 1)
    assert agreed(math.inf) == math.inf
    assert gathered({"a": 1}) == [{"a": 1}]
    assert logging.getLogger("kaldi_mpq").level != logging.WARNING
