# SPDX-License-Identifier: Apache-2.0
"""Speed of language-model training against a bare torch loop: the same model, batches and optimiser, nothing else.

    python benchmarks/lm_train.py [--model transformer] [--embedding-dim 256 --hidden-dim 1024 --layers 6] [--threads 1]

The two take turns, batch by batch, in one process. Ours pays for making batches, learning rates, clipping, the check
for NaN, progress and the decision when to save; the bare loop finds its batches ready, and scores padding too, as bare
loops do. Validations and checkpoints, once an epoch, are left out. The words are random ones, as frequent as Zipf has
it, in utterances of a dozen on average.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import kaldi_mpq  # noqa: F401  sets MKL_DEBUG_CPU_TYPE before torch loads

# isort: split
import numpy as np
import torch
from torch.nn import functional

from kaldi_mpq.artefact import write_json
from kaldi_mpq.lm.batches import PADDING, Batch
from kaldi_mpq.lm.model import LanguageModel, ModelConfig, build
from kaldi_mpq.lm.objective import Objective
from kaldi_mpq.lm.settings import OptimSettings
from kaldi_mpq.lm.train import Trainer, make_optimizer
from kaldi_mpq.text.corpus import Corpus

WARM_UP = 2  # batches that are not timed


def main() -> None:
    """Measure, print tokens per second and their ratio, write benchmarks/out/lm_train.json."""
    options = parse()
    torch.set_num_threads(options.threads)
    settings = OptimSettings(epochs=1, batch_tokens=options.batch_tokens, context=options.context, device="cpu")
    corpus = random_corpus(options.vocab, (options.steps + WARM_UP) * options.batch_tokens)
    ours, theirs = (make_model(options) for _ in range(2))
    with tempfile.TemporaryDirectory() as out:
        trainer = TakingTurns(Objective(ours), settings, corpus, corpus, Path(out))
        trainer.bare = BareLoop(theirs, settings)
        trainer.run({})
    report(options, ours, trainer.tokens[WARM_UP:], trainer.seconds[WARM_UP:], trainer.bare.seconds[WARM_UP:])


class BareLoop:
    """What a training step is without anything around it."""

    def __init__(self, model: LanguageModel, settings: OptimSettings) -> None:
        self.model = model.train()
        self.optimizer = make_optimizer(Objective(model), settings)
        self.seconds: list[float] = []

    def step(self, batch: Batch) -> None:
        """Train on a batch."""
        began = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        hidden, _ = self.model(batch.inputs)
        logits = self.model.logits(hidden)
        functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=PADDING).backward()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - began)


class TakingTurns(Trainer):
    """The training loop, which lets the bare loop train on each batch after itself."""

    bare: BareLoop

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.seconds: list[float] = []
        self.tokens: list[int] = []

    def _remaining(self) -> Iterator[Batch]:
        batches = super()._remaining()
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            yield batch  # goes on when the loop has done all that it does with a batch
            self.seconds.append(time.perf_counter() - began)
            self.tokens.append(int((batch.targets != PADDING).sum()))
            self.bare.step(batch)

    def _validate(self, tokens_per_second: float) -> None:
        del tokens_per_second
        self.best_weights = self.objective.state_dict()

    def _save(self, path: Path, made_with: dict) -> None:
        """Save nothing."""


def random_corpus(vocab: int, tokens: int) -> Corpus:
    """Return a corpus of about so many tokens, in conversations of fifty utterances."""
    generator = np.random.default_rng(1)
    lengths = 1 + generator.geometric(1 / 10, size=tokens // 12)
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    words = (generator.zipf(1.2, size=int(offsets[-1])) % (vocab - 3)).astype(np.int32)
    return Corpus(words, offsets, (np.arange(len(lengths)) // 50).astype(np.int32))


def make_model(options: argparse.Namespace) -> LanguageModel:
    """Return a new model of the options' shape; two of them have the same weights."""
    torch.manual_seed(1)
    shape = {name: getattr(options, name) for name in ("embedding_dim", "hidden_dim", "layers", "heads", "dropout")}
    symbols = {"bos": options.vocab - 3, "eos": options.vocab - 2, "unk": options.vocab - 1}
    return build(ModelConfig(options.model, vocab_size=options.vocab, **symbols, **shape))


def report(
    options: argparse.Namespace, model: LanguageModel, tokens: list[int], ours: list[float], bare: list[float]
) -> None:
    """Print and write the speeds; the ratio is the median over batches, each of them timed with both."""
    ratio = statistics.median(theirs / own for own, theirs in zip(ours, bare, strict=True))
    speeds = {"ours": sum(tokens) / sum(ours), "bare loop": sum(tokens) / sum(bare)}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{options.model}, {parameters / 1e6:.2f} M parameters, {options.context} context, {len(tokens)} batches")
    print(f"{options.threads} thread(s), torch {torch.__version__}")
    for name, speed in speeds.items():
        print(f"{name:<10} {speed:>8.0f} tokens/s")
    print(f"ours has {ratio:.3f} of the bare loop's speed (target: 0.9 or more)")
    out = Path(__file__).parent / "out" / "lm_train.json"
    result = {"ratio": ratio, "tokens_per_second": speeds, "seconds": {"ours": ours, "bare loop": bare}}
    write_json(out, {"settings": vars(options), "torch": torch.__version__, "parameters": parameters, **result})
    print(json.dumps({"written": str(out)}))


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("lstm", "transformer"), default="lstm")
    parser.add_argument("--embedding-dim", type=int, default=512)
    parser.add_argument("--hidden-dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--vocab", type=int, default=11869)
    parser.add_argument("--context", choices=("utterance", "conversation"), default="utterance")
    parser.add_argument("--batch-tokens", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=12, help="batches that are timed, with both")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
